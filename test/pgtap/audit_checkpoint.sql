-- audit: checkpoints as text: given out, signed, kept outside, and compared with the log later.
BEGIN;
SELECT no_plan();
\i test/data/fake_entries.sql
\set one '''00000000-0000-7000-8000-000000000001'''
\set two '''00000000-0000-7000-8000-000000000002'''
\set log '''ffffffff-ffff-ffff-ffff-ffffffffffff'''
SELECT fake_entries(:one, 0, 5), fake_entries(:two, 1, 7);
SELECT opsflow.seal_audit();
CREATE FUNCTION attempt(role name, organization text, call text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    result text;
BEGIN
    PERFORM set_config('opsflow.organization_id', coalesce(organization, ''), true);
    EXECUTE format('SET LOCAL ROLE %I', role);
    EXECUTE 'SELECT ' || call INTO result;
    RESET ROLE;
    RETURN result;
EXCEPTION WHEN OTHERS THEN
    RESET ROLE;
    RETURN SQLSTATE || ': ' || SQLERRM;
END $$;

-- What is given out.
SELECT is(opsflow.audit_checkpoint(organization_id => :one),
    (SELECT format(E'opsflow/%s/%s/%s\n5\n%s\n', system_identifier, oid, :one, encode(mth(array_agg(fake_hash(:one, 0, n) ORDER BY n)), 'base64'))
     FROM pg_control_system(), pg_database, generate_series(1, 5) n WHERE datname = current_database() GROUP BY system_identifier, oid),
    'a checkpoint has origin, size and root, a line each');
SELECT is(opsflow.audit_checkpoint(), (SELECT format(E'%s\n%s\n%s\n', origin, tree_size, encode(root, 'base64')) FROM opsflow.audit_checkpoints
    WHERE organization_id = :log ORDER BY tree_size DESC LIMIT 1), 'the database''s log has one too, whose origin names no organization');
SELECT is(opsflow.audit_checkpoint_key(), NULL, 'without a key there is none');
SELECT is(attempt('opsflow_member', :one, format('opsflow.audit_checkpoint(%L)', :one)), opsflow.audit_checkpoint(:one), 'members get that of their organization');
SELECT is(attempt('opsflow_member', :one, format('opsflow.audit_checkpoint(%L)', :two)), format('OF003: organization %s has no ledger', :two), 'not that of others');
SELECT is(attempt('opsflow_member', :one, 'opsflow.audit_checkpoint(''aaaaaaaa-0000-7000-8000-000000000001'')'),
    'OF003: organization aaaaaaaa-0000-7000-8000-000000000001 has no ledger', 'which reads like one that is not there');
SELECT is(attempt('opsflow_member', :one, 'opsflow.audit_checkpoint()'), 'OF003: the database''s log has no checkpoint that you may read', 'nor the database''s');
SELECT is(attempt('opsflow_auditor', NULL, 'opsflow.audit_checkpoint()'), opsflow.audit_checkpoint(), 'auditors get that');
SELECT fake_entries('00000000-0000-7000-8000-000000000003', 0, 1);
SELECT is(attempt('opsflow_auditor', NULL, 'opsflow.audit_checkpoint(''00000000-0000-7000-8000-000000000003'')'),
    'OF004: nothing in the ledger of organization 00000000-0000-7000-8000-000000000003 is sealed yet', 'while nothing is sealed there is no checkpoint');

-- Kept outside, and compared later.
CREATE TABLE kept AS SELECT opsflow.audit_checkpoint(:one) AS one, opsflow.audit_checkpoint(:two) AS two, opsflow.audit_checkpoint() AS log;
GRANT SELECT ON kept TO PUBLIC;
SELECT is((opsflow.verify_checkpoint(one), opsflow.verify_checkpoint(log))::text, '(ok,ok)', 'a checkpoint is good at once') FROM kept;
SELECT fake_entries(:one, 0, 100), opsflow.seal_audit(:one);
ALTER TABLE kept ADD newest text;
UPDATE kept SET newest = opsflow.audit_checkpoint(:one);
SELECT is((opsflow.verify_checkpoint(checkpoint => one), opsflow.verify_checkpoint(log))::text, '(ok,ok)', 'and after the log has grown') FROM kept;
SELECT is(attempt('opsflow_member', :one, 'opsflow.verify_checkpoint(one) FROM kept'), 'ok', 'members verify one of their organization');
SELECT is(attempt('opsflow_member', :one, 'opsflow.verify_checkpoint(two) FROM kept'), format('OF003: organization %s has no ledger', :two), 'not one of another');
SELECT is(attempt('opsflow_member', :one, 'opsflow.verify_checkpoint(log) FROM kept'), format('OF003: organization %s has no ledger', :log), 'nor one of the database''s log');
SELECT is(attempt('opsflow_member', :one, 'opsflow.verify_checkpoint(replace(two, ''0002'', ''0009'')) FROM kept'),
    'OF003: organization 00000000-0000-7000-8000-000000000009 has no ledger', 'which reads like one that is not there');
SELECT is(attempt('opsflow_auditor', NULL, 'opsflow.verify_checkpoint(two) FROM kept'), 'ok', 'auditors verify every one');
SELECT is(opsflow.verify_checkpoint(NULL), NULL, 'no text, no answer');

-- What it may look like.
SELECT is(opsflow.verify_checkpoint(changed), 'ok', 'still a checkpoint: ' || what)
FROM kept, LATERAL (VALUES ('with CR LF', replace(one, E'\n', E'\r\n')), ('without the last newline', rtrim(one, E'\n')), ('with more newlines', one || E'\n\n'),
    ('with a signature of somebody else', one || E'\n\u2014 example.com/witness ' || encode('12345678', 'base64') || E'\n'),
    ('with CR LF and such a signature', replace(one || E'\n\u2014 example.com/witness ' || encode('12345678', 'base64') || E'\n', E'\n', E'\r\n'))) v (what, changed);
SELECT is(attempt('opsflow_auditor', NULL, format('opsflow.verify_checkpoint(%L)', changed)), 'OF007: this is no checkpoint: ' || problem, problem || ': ' || what)
FROM kept, split_part(one, E'\n', 1) origin, split_part(one, E'\n', 3) root, LATERAL (VALUES
    ('nothing', '', 'it has less than three lines'), ('newlines', E'\n\n\n', 'it has less than three lines'), ('a word', 'hello', 'it has less than three lines'),
    ('two lines', origin || E'\n5\n', 'it has less than three lines'), ('an empty origin', E'\n5\n' || root, 'it has less than three lines'),
    ('no size', concat_ws(E'\n', origin, '', root), 'its second line is not a number of leaves'),
    ('a word for a size', concat_ws(E'\n', origin, 'five', root), 'its second line is not a number of leaves'),
    ('a zero before the size', concat_ws(E'\n', origin, '05', root), 'its second line is not a number of leaves'),
    ('a sign', concat_ws(E'\n', origin, '+5', root), 'its second line is not a number of leaves'),
    ('a negative size', concat_ws(E'\n', origin, '-5', root), 'its second line is not a number of leaves'),
    ('a space', concat_ws(E'\n', origin, '5 ', root), 'its second line is not a number of leaves'),
    ('too large a size', concat_ws(E'\n', origin, '9223372036854775808', root), 'its number of leaves is out of range'),
    ('a short root', concat_ws(E'\n', origin, '5', encode('12345678', 'base64')), 'its third line is not 32 bytes in base64'),
    ('a long root', concat_ws(E'\n', origin, '5', encode(convert_to(repeat('x', 33), 'UTF8'), 'base64')), 'its third line is not 32 bytes in base64'),
    ('a root in hex', concat_ws(E'\n', origin, '5', encode(sha256('x'), 'hex')), 'its third line is not 32 bytes in base64'),
    ('a root without padding', concat_ws(E'\n', origin, '5', rtrim(root, '=')), 'its third line is not 32 bytes in base64'),
    ('a root with a space', concat_ws(E'\n', origin, '5', overlay(root placing ' ' from 5 for 0)), 'its third line is not 32 bytes in base64'),
    ('a root with letters of its own', concat_ws(E'\n', origin, '5', overlay(root placing 'é' from 5 for 1)), 'its third line is not 32 bytes in base64'),
    ('a root written in another way', concat_ws(E'\n', origin, '5', regexp_replace(root, '.=$', translate(substr(root, 43, 1), 'AEIMQUYcgkosw048', 'BFJNRVZdhlptx159') || '=')),
        'its third line is not 32 bytes in base64'),
    ('a fourth line', concat_ws(E'\n', origin, '5', root, 'more'), 'it has more than three lines before the signatures'),
    ('no signature', concat_ws(E'\n', origin, '5', root, '', 'signature'), 'what follows the empty line is no signature'),
    ('a hyphen for the dash', concat_ws(E'\n', origin, '5', root, '', '- name ' || root), 'what follows the empty line is no signature'),
    ('no name', concat_ws(E'\n', origin, '5', root, '', E'\u2014  ' || root), 'what follows the empty line is no signature'),
    ('no base64', concat_ws(E'\n', origin, '5', root, '', E'\u2014 name !!!!'), 'a signature is not in base64'),
    ('too short a signature', concat_ws(E'\n', origin, '5', root, '', E'\u2014 name ' || encode('1234', 'base64')), 'a signature is not in base64')) v (what, changed, problem);
SELECT is(opsflow.verify_checkpoint(changed), 'unknown origin', 'a checkpoint of ' || what)
FROM kept, (SELECT 'opsflow/' || system_identifier || '/' || oid AS origin FROM pg_control_system(), pg_database WHERE datname = current_database()) o,
LATERAL (VALUES ('another kind of log', replace(one, 'opsflow/', 'example.com/')), ('another database', replace(one, origin, origin || '1')),
    ('another cluster', replace(one, 'opsflow/', 'opsflow/1')), ('no organization', replace(one, origin || '/', origin || '/x')),
    ('an organization in capitals', replace(replace(one, :one, :one || 'A'), '1A', 'A')), ('the log as an organization', replace(one, :one, :log)),
    ('nothing after the slash', replace(one, :one, '')), ('part of an origin', replace(one, origin, 'opsflow/'))) v (what, changed);

-- What is not as it was kept.
CREATE FUNCTION verdict(checkpoint text) RETURNS text LANGUAGE sql AS $$ SELECT opsflow.verify_checkpoint($1) $$;
SELECT is(verdict(overlay(one placing CASE substr(one, length(one) - 10, 1) WHEN 'A' THEN 'B' ELSE 'A' END from length(one) - 10 for 1)), 'tampered', 'another root') FROM kept;
SELECT is(verdict(replace(one, E'\n5\n', E'\n6\n')), 'tampered', 'another size') FROM kept;
SELECT is(verdict(replace(one, E'\n5\n', E'\n106\n')), 'tampered', 'a size that the log has not reached') FROM kept;
SELECT is(verdict(replace(one, E'\n5\n', E'\n9223372036854775807\n')), 'tampered', 'or never will') FROM kept;
SELECT is(verdict(replace(one, E'\n5\n', E'\n0\n')), 'tampered', 'no leaves, and still a root') FROM kept;
SELECT is(verdict(format(E'%s\n0\n%s\n', split_part(one, E'\n', 1), encode(sha256(''), 'base64'))), 'ok', 'every log begins with the empty one') FROM kept;
SELECT is(verdict(replace(one, :one, :two)), 'tampered', 'the checkpoint of one under the name of another') FROM kept;
ALTER TABLE opsflow.audit_trail DISABLE TRIGGER audit_guard;
ALTER TABLE opsflow.audit_tiles DISABLE TRIGGER audit_guard;
ALTER TABLE opsflow.audit_ranges DISABLE TRIGGER audit_guard;
ALTER TABLE opsflow.audit_checkpoints DISABLE TRIGGER audit_guard;
SAVEPOINT a;
-- History rewritten, heads, tiles and checkpoints included: another ledger, sealed anew.
CREATE FUNCTION forget(organization_id uuid) RETURNS void LANGUAGE sql AS $$
    DELETE FROM opsflow.audit_trail t WHERE t.organization_id = $1;
    DELETE FROM opsflow.audit_chain_heads t WHERE t.organization_id = $1;
    DELETE FROM opsflow.audit_tiles t WHERE t.organization_id = $1;
    DELETE FROM opsflow.audit_ranges t WHERE t.organization_id = $1;
    DELETE FROM opsflow.audit_checkpoints t WHERE t.organization_id = $1;
$$;
SAVEPOINT a;
SELECT forget(:one);
SELECT fake_entries(:one, 1, 200), opsflow.seal_audit(:one);
SELECT is(verdict(one), 'tampered', 'a ledger that was rewritten to the last bit') FROM kept;
ROLLBACK TO a;
SELECT forget(:one);
SELECT fake_entries(:one, 0, 4), opsflow.seal_audit(:one);
SELECT is(verdict(one), 'tampered', 'a ledger that was set back') FROM kept;
ROLLBACK TO a;
SELECT forget(:one);
SELECT is(verdict(one), 'tampered', 'an organization that is gone altogether') FROM kept;
SELECT is(attempt('opsflow_member', :one, 'opsflow.verify_checkpoint(one) FROM kept'), 'tampered', 'as its members are told too');
SELECT is(attempt('opsflow_member', :two, 'opsflow.verify_checkpoint(one) FROM kept'), format('OF003: organization %s has no ledger', :one), 'and nobody else');
SELECT is(attempt('opsflow_auditor', NULL, 'opsflow.verify_checkpoint(log) FROM kept'), 'ok', 'the database''s log is still what it was');
SELECT forget(:log);
SELECT is(verdict(log), 'tampered', 'until it is gone as well') FROM kept;
ROLLBACK TO a;
UPDATE opsflow.audit_tiles SET hashes = set_byte(hashes, 40, get_byte(hashes, 40) # 1) WHERE organization_id = :one AND level = 0 AND tile = 0;
SELECT is(verdict(one), 'tampered', 'a tile that was changed') FROM kept;
ROLLBACK TO a;
DELETE FROM opsflow.audit_tiles WHERE organization_id = :one AND level = 0 AND tile = 0;
SELECT is(verdict(one), 'tampered', 'a tile that is missing') FROM kept;
ROLLBACK TO a;
DELETE FROM opsflow.audit_checkpoints WHERE organization_id = :one AND tree_size > 5;
SELECT is((verdict(one), verdict(newest))::text, '(ok,tampered)', 'tiles that are there do not stand in for a checkpoint that is gone') FROM kept;
ROLLBACK TO a;
-- A copy: the log goes on under another origin, and still answers for the one it was sealed under.
UPDATE opsflow.audit_checkpoints SET origin = 'opsflow/1/1' WHERE organization_id = :one AND tree_size = 5;
SELECT is(verdict(regexp_replace(one, '^opsflow/\d+/\d+', 'opsflow/1/1')), 'ok', 'in a restored copy, a checkpoint of the original is known') FROM kept;
SELECT is(verdict(regexp_replace(one, '^opsflow/\d+/\d+', 'opsflow/1/2')), 'unknown origin', 'one of a third database is not') FROM kept;
SELECT is(verdict(regexp_replace(replace(one, E'\n5\n', E'\n5000\n'), '^opsflow/\d+/\d+', 'opsflow/1/1')), 'tampered', 'one from after the copy was made says that entries are missing') FROM kept;
ROLLBACK TO a;
SELECT is((verdict(one), verdict(log))::text, '(ok,ok)', 'with all that undone, both are good again') FROM kept;

-- The setting is the superuser's.
SELECT is((context, setting)::text, '(superuser,"")', 'by default no key is set') FROM pg_settings WHERE name = 'opsflow.checkpoint_key_file';
SELECT is(attempt('opsflow_admin', NULL, 'set_config(''opsflow.checkpoint_key_file'', ''/etc/passwd'', true)'),
    '42501: permission denied to set parameter "opsflow.checkpoint_key_file"', 'nobody else sets it');
SELECT is(attempt('opsflow_admin', NULL, 'current_setting(''opsflow.checkpoint_key_file'')'),
    CASE WHEN current_setting('server_version_num')::integer < 160000 THEN '42501: must be superuser or have privileges of pg_read_all_settings to examine "opsflow.checkpoint_key_file"'
    ELSE '42501: permission denied to examine "opsflow.checkpoint_key_file"' END, 'or sees it');

-- Keys, in files of the server's. The good one is that of the first test vector of RFC 8032, 7.1.
SELECT format('opsflow_test_%s_', pg_backend_pid()) AS prefix \gset
CREATE FUNCTION key_file(name text, contents text, mode text DEFAULT '600') RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('COPY (SELECT unnest(string_to_array(%L, E''\n''))) TO PROGRAM %L', contents, format('umask 077; cat >%1$s; chmod %2$s %1$s', name, mode));
END $$;
CREATE FUNCTION pem(base64 text) RETURNS text LANGUAGE sql AS $$ SELECT concat_ws(E'\n', '-----BEGIN PRIVATE KEY-----', base64, '-----END PRIVATE KEY-----') $$;
\set good 'MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g'
SELECT key_file(:'prefix' || 'good', pem(:'good')), key_file(:'prefix' || 'text', concat_ws(E'\n', 'The key for checkpoints', pem(:'good'))),
    key_file(:'prefix' || 'group', pem(:'good'), '640'), key_file(:'prefix' || 'world', pem(:'good'), '604'),
    key_file(:'prefix' || 'empty', ''), key_file(:'prefix' || 'nonsense', 'nonsense'), key_file(:'prefix' || 'half', left(pem(:'good'), 50)),
    key_file(:'prefix' || 'x25519', pem('MC4CAQAwBQYDK2VuBCIEIHcHbQpzGKV9PBbBclGyZkXfTC+H68CZKrF3+6UduSwq')),
    key_file(:'prefix' || 'large', pem(:'good') || repeat(E'\nmore', 4000)),
    key_file(:'prefix' || 'public', concat_ws(E'\n', '-----BEGIN PUBLIC KEY-----', 'MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=', '-----END PUBLIC KEY-----'));
SELECT set_config('opsflow.checkpoint_key_file', :'prefix' || 'good', true);
CREATE TABLE key AS
SELECT format('opsflow/%s/%s', system_identifier, oid) AS name, '\x01d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a'::bytea AS public
FROM pg_control_system(), pg_database WHERE datname = current_database();
SELECT is(opsflow.audit_checkpoint_key(), format('%s+%s+%s', name, left(encode(sha256(convert_to(name || E'\n', 'UTF8') || public), 'hex'), 8), encode(public, 'base64')),
    'the verifier''s key has the name of the database, the hash and the key') FROM key;
SELECT is(attempt('opsflow_member', :one, 'opsflow.audit_checkpoint_key()'), opsflow.audit_checkpoint_key(), 'members get it too');
CREATE TABLE signed AS SELECT attempt('opsflow_member', :one, format('opsflow.audit_checkpoint(%L)', :one)) AS one, opsflow.audit_checkpoint() AS log;
GRANT SELECT ON signed TO PUBLIC;
SELECT alike(one, format(E'%s/%s\n105\n%%\n\n\u2014 %s %%\n', name, :one, name), 'a signed checkpoint has the signature behind an empty line') FROM signed, key;
CREATE FUNCTION signature(note text) RETURNS bytea LANGUAGE sql AS $$ SELECT decode(substring(note FROM '\u2014 [^ ]+ ([^\n]+)\n$'), 'base64') $$;
CREATE FUNCTION with_signature(note text, signature bytea) RETURNS text LANGUAGE sql AS $$
    SELECT substring(note FROM '^(.*\u2014 [^ ]+ )[^\n]+\n$') || translate(encode(signature, 'base64'), E'\n', '') || E'\n'
$$;
SELECT is((length(signature(one)), substr(signature(one), 1, 4)), (68, substr(sha256(convert_to(name || E'\n', 'UTF8') || public), 1, 4)), 'which names the key')
FROM signed, key;
SELECT is((opsflow.verify_checkpoint(one), opsflow.verify_checkpoint(log), opsflow.verify_checkpoint(replace(one, E'\n', E'\r\n')))::text, '(ok,ok,ok)', 'and is verified') FROM signed;
SELECT is(attempt('opsflow_member', :one, 'opsflow.verify_checkpoint(one) FROM signed'), 'ok', 'for members too');
SELECT is(count(*), 0::bigint, 'a signature with any bit flipped is wrong')
FROM signed, generate_series(32, 68 * 8 - 1, 7) place
WHERE opsflow.verify_checkpoint(with_signature(one, set_bit(signature(one), place, 1 - get_bit(signature(one), place)))) <> 'tampered';
SELECT is(opsflow.verify_checkpoint(with_signature(one, bad)), 'tampered', 'so is one of another length')
FROM signed, LATERAL (VALUES (substr(signature(one), 1, 67)), (signature(one) || '\x00'::bytea), (substr(signature(one), 1, 5))) v (bad);
SELECT is(opsflow.verify_checkpoint(with_signature(one, set_bit(signature(one), 3, 1 - get_bit(signature(one), 3)))), 'ok', 'one with another key says nothing') FROM signed;
SELECT is(opsflow.verify_checkpoint(replace(one, E'\n105\n', E'\n5\n')), 'tampered', 'one over something else is wrong') FROM signed;
SELECT is(opsflow.verify_checkpoint(one || E'\u2014 example.com/witness ' || encode('12345678', 'base64') || E'\n'), 'ok', 'there may be others beside it') FROM signed;
SELECT set_config('opsflow.checkpoint_key_file', '', true);
SELECT is((opsflow.verify_checkpoint(one), opsflow.audit_checkpoint(:one))::text, (SELECT ('ok', split_part(one, E'\n\n', 1) || E'\n')::text),
    'without the key a signature says nothing, and there is none') FROM signed;
SELECT set_config('opsflow.checkpoint_key_file', :'prefix' || 'text', true);
SELECT is(opsflow.audit_checkpoint(:one), one, 'text around the key does not matter, and the signature is always the same') FROM signed;
SELECT is(attempt(session_user, NULL, format('set_config(''opsflow.checkpoint_key_file'', %L, true) || opsflow.audit_checkpoint_key()', :'prefix' || file)), 'OF012: ' || error, file || ': ' || error)
FROM (VALUES ('group', 'the file that opsflow.checkpoint_key_file names can be read by others'), ('world', 'the file that opsflow.checkpoint_key_file names can be read by others'),
    ('empty', 'the file that opsflow.checkpoint_key_file names has no Ed25519 private key in PEM without a password'),
    ('nonsense', 'the file that opsflow.checkpoint_key_file names has no Ed25519 private key in PEM without a password'),
    ('half', 'the file that opsflow.checkpoint_key_file names has no Ed25519 private key in PEM without a password'),
    ('x25519', 'the file that opsflow.checkpoint_key_file names has no Ed25519 private key in PEM without a password'),
    ('public', 'the file that opsflow.checkpoint_key_file names has no Ed25519 private key in PEM without a password'),
    ('large', 'the file that opsflow.checkpoint_key_file names is too large'),
    ('missing', 'could not open the file that opsflow.checkpoint_key_file names: No such file or directory')) v (file, error);
SELECT is(attempt(session_user, NULL, 'set_config(''opsflow.checkpoint_key_file'', ''base'', true) || opsflow.audit_checkpoint_key()'),
    'OF012: the file that opsflow.checkpoint_key_file names is not a regular file', 'a directory is no key');
SELECT is(attempt(session_user, NULL, format('set_config(''opsflow.checkpoint_key_file'', %L, true) || opsflow.audit_checkpoint(%L)', :'prefix' || 'missing', :one)),
    'OF012: could not open the file that opsflow.checkpoint_key_file names: No such file or directory', 'a checkpoint is not given out unsigned by mistake');
SELECT format('COPY (SELECT 1) TO PROGRAM %L', format('cat >/dev/null; rm -f %s*', :'prefix')) AS clean \gset
:clean;
SELECT * FROM finish();
ROLLBACK;
