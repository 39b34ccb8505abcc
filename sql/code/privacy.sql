-- privacy: erasing a person, and telling what is held about one.

CREATE FUNCTION opsflow.erase_user(
    user_id uuid, reason text, batch integer DEFAULT NULL, OUT relation text, OUT "rows" bigint)
RETURNS SETOF record
LANGUAGE C VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_erase_user';
COMMENT ON FUNCTION opsflow.erase_user(uuid, text, integer) IS
'Takes away what is held about a person, in every organization: sessions and keys are revoked, memberships ended, the columns of opsflow.personal_columns cleared, the payloads of the ledger''s entries by and about the person redacted, and name, address and credentials in opsflow.users replaced. Rows, ids, chain and proofs stay. reason: why, 1 to 1000 characters, without naming the person: it stays, in an entry with action erase in each ledger. batch: how many entries of the ledger to redact at most; null means all. Returns how many rows of which table were changed; call it again until it returns none, and again later if the person may have been acting meanwhile. For opsflow_service and opsflow_admin, in the name of nobody. Errors: OF003 if there is no such user, OF004 if the person is the only owner of an organization, or a row of opsflow.personal_columns is wrong, OF005 with a user in the context, OF007 without a reason or if it names the person, or batch is not positive, OF012 if opsflow_owner may not change a table of yours.';

CREATE FUNCTION opsflow.export_user(user_id uuid, max_rows integer DEFAULT 10000)
RETURNS jsonb
LANGUAGE C VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_export_user';
COMMENT ON FUNCTION opsflow.export_user(uuid, integer) IS
'What is held about a person, as an object with an array of rows for each table: rows about the person in full, without hashes and secrets ([masked] says that there is one); of rows that only name the person (created_by, decided_by, ...) the key, the naming columns and created_at; and the ledger''s entries by and about the person. max_rows: at most so many rows of a table in an organization, the newest first by key; truncated names the tables with more, unreadable those of yours that opsflow_owner may not read. Persons see what is theirs in the organization they act in; members with the permission members.export the same of another member; opsflow_service without a user and opsflow_admin what is in all organizations. Errors: OF001 without a context, OF003 if there is no such user, or no such member of the organization, OF005 without the permission, or by an agent, OF007 if max_rows is not positive. Permission: members.export for others.';

GRANT EXECUTE ON FUNCTION opsflow.erase_user(uuid, text, integer) TO opsflow_service, opsflow_admin;
GRANT EXECUTE ON FUNCTION opsflow.export_user(uuid, integer) TO opsflow_member, opsflow_admin;
