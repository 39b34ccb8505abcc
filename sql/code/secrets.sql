-- secrets: encryption.

CREATE FUNCTION opsflow.encrypt_secret(plain text, context text)
RETURNS text
LANGUAGE C VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_encrypt_secret';
COMMENT ON FUNCTION opsflow.encrypt_secret(text, text) IS
'Encrypts a secret of the organization in the context, up to 1 MiB, for an application to keep. context, 1 to 255 characters, says what it is for: opsflow.decrypt_secret() wants the same. Hand plain over as a parameter, not in the text of a statement. Null for null. Errors: OF001 without a context, OF005 without the permission, OF007 for a context or secret that is too long, OF012 without the master key. Permission: secrets.edit.';

CREATE FUNCTION opsflow.decrypt_secret(cipher text, context text)
RETURNS text
LANGUAGE C STABLE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_decrypt_secret';
COMMENT ON FUNCTION opsflow.decrypt_secret(text, text) IS
'What opsflow.encrypt_secret() encrypted for the organization in the context and the same context. Null for null. Errors: OF001 without a context, OF005 without the permission, OF007 for a context that is a secret column, which opsflow.read_secret() reads, OF012 without the master key, OF013 if the ciphertext was altered, is of another organization or context, or its key is destroyed. Permission: secrets.read.';

GRANT EXECUTE ON FUNCTION opsflow.encrypt_secret(text, text), opsflow.decrypt_secret(text, text) TO opsflow_member;

CREATE FUNCTION opsflow.encrypt_columns()
RETURNS trigger
LANGUAGE C VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_encrypt_columns';
COMMENT ON FUNCTION opsflow.encrypt_columns() IS
'Trigger, BEFORE INSERT OR UPDATE for each row: keeps secret columns encrypted. Its arguments are contexts, ''table.column'', whose last part is a column of type text or jsonb, with '' if flag'' after it where a boolean column says which rows are secret. A plain value is encrypted in its place, of jsonb each string; a ciphertext must be of this organization and column. A table with organization_id NOT NULL has secrets of organizations, another one those of people. Errors: OF007 for arguments that name no such column, and for a secret that would become readable; OF012 without the master key; OF013 for a ciphertext that was altered or is not of this place.';

CREATE FUNCTION opsflow.secret_columns()
RETURNS TABLE (relation regclass, column_name text, context text, type text, flag text, of_person boolean,
    is_always boolean)
LANGUAGE C STABLE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_secret_columns_sql';
COMMENT ON FUNCTION opsflow.secret_columns() IS
'The columns that triggers opsflow.encrypt_columns() keep encrypted: table, column, the context that its ciphertexts are bound to, text or jsonb, the boolean column that says which rows are secret (null: all), whether they are secrets of people rather than of an organization, and whether the trigger is enabled always.';

GRANT EXECUTE ON FUNCTION opsflow.secret_columns() TO opsflow_member, opsflow_admin;

CREATE FUNCTION opsflow.plain_secrets()
RETURNS TABLE (relation regclass, column_name text, "rows" bigint)
LANGUAGE C STABLE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_plain_secrets';
COMMENT ON FUNCTION opsflow.plain_secrets() IS
'The columns of opsflow.secret_columns() that have values which are not encrypted, and in how many rows: written before there was the trigger, or while it was disabled. Reads the whole tables. For opsflow_admin.';

GRANT EXECUTE ON FUNCTION opsflow.plain_secrets() TO opsflow_admin;

CREATE FUNCTION opsflow.read_secret(relation regclass, id uuid, column_name text, key text DEFAULT NULL)
RETURNS text
LANGUAGE C VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_read_secret';
COMMENT ON FUNCTION opsflow.read_secret(regclass, uuid, text, text) IS
'A secret of a row that the caller can see, decrypted. relation and column_name are one of opsflow.secret_columns(); of a jsonb column, key picks a value, null the whole object. Null where there is none. The ledger records each call, not the value. Needs permission secrets.read, or executions.work where no user acts and the caller may read the table; what belongs to a person is read by that person alone. Errors: OF001 without a context, OF003 for a row that is not there, OF005 without the permission, OF007 for a column that holds no secrets, OF012 without the master key, OF013 if the secret was altered. Permission: secrets.read.';

CREATE FUNCTION opsflow.secret_preview(relation regclass, id uuid, column_name text, key text DEFAULT NULL)
RETURNS text
LANGUAGE C STABLE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_secret_preview';
COMMENT ON FUNCTION opsflow.secret_preview(regclass, uuid, text, text) IS
'A secret as people tell it from others: its first and last characters, at most a quarter of it and not more than 8; of one shorter than 12 characters nothing. Arguments are those of opsflow.read_secret(). Whoever can see the row may call it. Errors: OF001 without a context, OF003 for a row that is not there, OF007 for a column that holds no secrets, OF012 without the master key, OF013 if the secret was altered.';

GRANT EXECUTE ON FUNCTION opsflow.read_secret(regclass, uuid, text, text),
    opsflow.secret_preview(regclass, uuid, text, text) TO opsflow_member, opsflow_worker;

CREATE FUNCTION opsflow.rotate_encryption_key(organization_id uuid DEFAULT NULL, batch integer DEFAULT NULL)
RETURNS bigint
LANGUAGE C VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_rotate_encryption_key';
COMMENT ON FUNCTION opsflow.rotate_encryption_key(uuid, integer) IS
'Gives an organization (null: the one in the context; an administrator may name any, and the nil UUID for the secrets of people) a new data key, and re-encrypts up to batch rows (null: all). While a rotation is under way, it goes on with that and makes no other key. Job rotate_encryption does the rest, what others hold meanwhile included, and destroys the older key once nothing uses it. Returns the number of rows re-encrypted. Errors: OF001 without a context, OF003 for an organization that is not there, OF005 without the permission, OF007 if batch is not positive, OF012 without the master key. Permission: secrets.rotate.';

CREATE FUNCTION opsflow.rotate_encryption(batch integer DEFAULT 500)
RETURNS bigint
LANGUAGE C VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_rotate_encryption';
COMMENT ON FUNCTION opsflow.rotate_encryption(integer) IS
'Goes on with the rotations of all organizations, up to batch rows: re-encrypts what is of an older key, retires keys that no row uses, destroys those that no snapshot can show any more. Skips what somebody else holds. An organization that fails gives a WARNING and does not stop the others. Returns the number of rows re-encrypted. For opsflow_admin. Errors: OF007 if batch is not positive.';

CREATE FUNCTION opsflow.rewrap_encryption_keys(batch integer DEFAULT NULL)
RETURNS bigint
LANGUAGE C VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_rewrap_encryption_keys';
COMMENT ON FUNCTION opsflow.rewrap_encryption_keys(integer) IS
'Wraps up to batch data keys (null: all) with the current master key, the first line of the key file, that are wrapped with another one. Secrets stay as they are. Once it returns 0, the older master key is needed for older backups only. Returns the number of keys. For opsflow_admin. Errors: OF007 if batch is not positive, OF012 if a master key is missing.';

CREATE FUNCTION opsflow.destroy_encryption_key(organization_id uuid, number integer)
RETURNS void
LANGUAGE C VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_destroy_encryption_key';
COMMENT ON FUNCTION opsflow.destroy_encryption_key(uuid, integer) IS
'Destroys a retired key with which opsflow.encrypt_secret() encrypted what is kept outside the secret columns: nobody can decrypt that any more. Whose key: as for opsflow.rotate_encryption_key(). Errors: OF001 without a context, OF003 for a key that is not there, OF004 for one in use, OF005 without the permission. Permission: secrets.rotate.';

CREATE FUNCTION opsflow.master_key_id()
RETURNS text
LANGUAGE C VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_master_key_id';
COMMENT ON FUNCTION opsflow.master_key_id() IS
'Id of the current master key: the first 8 hexadecimal digits of its SHA-256. Shows that opsflow.master_key_file or opsflow.master_key_command is right. For opsflow_admin. Errors: OF012 if it is not.';

CREATE FUNCTION opsflow.encryption_problems()
RETURNS TABLE (status text, detail text)
LANGUAGE C VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_encryption_problems';
COMMENT ON FUNCTION opsflow.encryption_problems() IS
'What keeps secrets from being encrypted or decrypted; no row where all is well. status warning: no master key is configured. error: opsflow.master_key_file or opsflow.master_key_command gives no fit key, or data keys cannot be unwrapped with the master keys that are there. Reads the keys anew, runs the command again, and unwraps every data key. Changes nothing; detail has no byte of a key. For opsflow_admin.';

GRANT EXECUTE ON FUNCTION opsflow.rotate_encryption_key(uuid, integer),
    opsflow.destroy_encryption_key(uuid, integer) TO opsflow_member, opsflow_admin;
GRANT EXECUTE ON FUNCTION opsflow.rotate_encryption(integer), opsflow.rewrap_encryption_keys(integer),
    opsflow.master_key_id(), opsflow.encryption_problems() TO opsflow_admin;
