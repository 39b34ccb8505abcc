-- secrets: encryption.

CREATE FUNCTION opsflow.encrypt_secret(plain text, context text)
RETURNS text
LANGUAGE C VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_encrypt_secret';
COMMENT ON FUNCTION opsflow.encrypt_secret(text, text) IS
'Encrypts a secret of the organization in the context, up to 1 MiB, for an application to keep. context, 1 to 255 characters, says what it is for: opsflow.decrypt_secret() wants the same. Hand plain over as a parameter, not in the text of a statement. Null for null. Needs permission secrets.edit. Errors: OF001 without a context, OF005 without the permission, OF007 for a context or secret that is too long, OF012 without the master key.';

CREATE FUNCTION opsflow.decrypt_secret(cipher text, context text)
RETURNS text
LANGUAGE C STABLE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_decrypt_secret';
COMMENT ON FUNCTION opsflow.decrypt_secret(text, text) IS
'What opsflow.encrypt_secret() encrypted for the organization in the context and the same context. Null for null. Needs permission secrets.read. Errors: OF001 without a context, OF005 without the permission, OF007 for a context that is a secret column, which opsflow.read_secret() reads, OF012 without the master key, OF013 if the ciphertext was altered, is of another organization or context, or its key is destroyed.';

GRANT EXECUTE ON FUNCTION opsflow.encrypt_secret(text, text), opsflow.decrypt_secret(text, text) TO opsflow_member;
