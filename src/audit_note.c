/*
 * audit_note.c
 *		Checkpoints as text: what is given out to be kept outside, and whether what
 *		was kept is still true.
 *
 * A text has three lines (origin, size, root), then perhaps an empty one and lines of
 * signatures.  Lines may end with CR LF, and newlines at the end of the text may be
 * more or none: files go through many hands.
 *
 * Everything is read with the caller's rights and row security, in one snapshot.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "common/base64.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/uuid.h"

#include "audit.h"
#include "audit_note.h"
#include "audit_sign.h"
#include "audit_tiles.h"
#include "context.h"
#include "core.h"
#include "tenancy.h"

PG_FUNCTION_INFO_V1(opsflow_audit_checkpoint);
PG_FUNCTION_INFO_V1(opsflow_audit_checkpoint_key);
PG_FUNCTION_INFO_V1(opsflow_verify_checkpoint);

#define EM_DASH "\xE2\x80\x94"
#define DIGITS "0123456789"

/* Signatures of other kinds may be longer than ours. */
#define MAX_SIGNATURE_LEN 4096

/* ----------------------------------------------------------------
 * Reading a text
 * ----------------------------------------------------------------
 */

OPSFLOW_NORETURN static void malformed(const char *what);

static void
malformed(const char *what)
{
	ereport(ERROR,
			(errcode(ERRCODE_OPSFLOW_INVALID_VALUE),
			 errmsg("this is no checkpoint: %s", what),
			 errhint("A checkpoint has three lines: origin, number of leaves, root in base64. "
					 "Lines of signatures may follow after an empty line.")));
}

/* Cut the next line off; NULL at the end. */
static char *
next_line(char **rest)
{
	char *line = *rest;
	char *end = line ? strchr(line, '\n') : NULL;

	*rest = end ? end + 1 : NULL;
	if (end == NULL)
		return line;
	if (end > line && end[-1] == '\r')
		end--;
	*end = '\0';
	return line;
}

/* Base64 in its one canonical form; returns the number of bytes, or -1. */
static int
decode_base64(const char *text, uint8 *bytes, int size)
{
	int length = strlen(text);

	if (length > pg_b64_enc_len(size))
		return -1;
	length = pg_b64_decode(text, length, OPSFLOW_BASE64_BUFFER(bytes), size);
	return length >= 0 && strcmp(opsflow_base64(bytes, length), text) == 0 ? length : -1;
}

static bool
is_canonical_uuid(const char *text)
{
	if (strlen(text) != 36)
		return false;
	for (int i = 0; i < 36; i++)
	{
		bool is_hyphen = i == 8 || i == 13 || i == 18 || i == 23;

		if (is_hyphen ? text[i] != '-' : strchr(DIGITS "abcdef", text[i]) == NULL)
			return false;
	}
	return true;
}

/* opsflow/<system identifier>/<OID of the database>[/<organization>] */
static void
parse_origin(CheckpointNote *note, const char *origin)
{
	const char *end = origin + strlen("opsflow/");

	if (strncmp(origin, "opsflow/", strlen("opsflow/")) != 0 || strspn(end, DIGITS) == 0)
		return;
	end += strspn(end, DIGITS);
	if (*end != '/' || strspn(end + 1, DIGITS) == 0)
		return;
	end += 1 + strspn(end + 1, DIGITS);
	if (*end == '\0')
		note->organization_id = opsflow_database_log;
	else if (*end == '/' && is_canonical_uuid(end + 1))
	{
		note->organization_id = *DatumGetUUIDP(DirectFunctionCall1(uuid_in, CStringGetDatum(end + 1)));
		if (opsflow_uuid_equal(&note->organization_id, &opsflow_database_log))
			return;
	}
	else
		return;
	note->database = pnstrdup(origin, end - origin);
}

static int64
parse_size(const char *line)
{
	char *end;
	int64 size;

	if (line[0] == '\0' || strspn(line, DIGITS) != strlen(line) || (line[0] == '0' && line[1] != '\0'))
		malformed("its second line is not a number of leaves");
	errno = 0;
	size = strtoi64(line, &end, 10);
	if (errno != 0)
		malformed("its number of leaves is out of range");
	return size;
}

/* An em dash, the name of the key, and base64 of its hash and the signature. */
static void
parse_signature(CheckpointNote *note, char *line)
{
	uint8 signature[MAX_SIGNATURE_LEN];
	char *name = line + strlen(EM_DASH " ");
	char *base64;
	int length;

	if (strncmp(line, EM_DASH " ", strlen(EM_DASH " ")) != 0 || (base64 = strchr(name, ' ')) == NULL || base64 == name)
		malformed("what follows the empty line is no signature");
	*base64++ = '\0';
	length = decode_base64(base64, signature, sizeof(signature));
	if (length <= NOTE_KEY_HASH_LEN)
		malformed("a signature is not in base64");
	if (opsflow_note_verify(note->body, name, signature, length) == NOTE_BAD)
		note->is_forged = true;
}

/* Whatever follows the three lines. */
static void
parse_signatures(CheckpointNote *note, char *rest)
{
	char *line = next_line(&rest);

	if (line == NULL)
		return;
	if (line[0] != '\0' || rest == NULL)
		malformed("it has more than three lines before the signatures");
	while ((line = next_line(&rest)) != NULL)
	{
		CHECK_FOR_INTERRUPTS();
		parse_signature(note, line);
	}
}

/* Read a checkpoint's text, in the current memory context.  Raises OF007 for what is none. */
CheckpointNote *
opsflow_note_parse(const text *source)
{
	CheckpointNote *note = palloc0(sizeof(CheckpointNote));
	char *rest = text_to_cstring(source);
	char *origin;
	char *size;
	char *root;

	rest = pstrdup(pg_server_to_any(rest, strlen(rest), PG_UTF8));
	for (int length = strlen(rest); length > 0 && (rest[length - 1] == '\n' || rest[length - 1] == '\r'); length--)
		rest[length - 1] = '\0';
	origin = next_line(&rest);
	size = next_line(&rest);
	root = next_line(&rest);
	if (root == NULL || origin[0] == '\0')
		malformed("it has less than three lines");
	parse_origin(note, origin);
	note->tree_size = parse_size(size);
	if (decode_base64(root, note->root, AUDIT_HASH_LEN) != AUDIT_HASH_LEN)
		malformed("its third line is not 32 bytes in base64");
	note->body = psprintf("%s\n%s\n%s\n", origin, size, root);
	parse_signatures(note, rest);
	return note;
}

/* ----------------------------------------------------------------
 * Comparing it with what there is
 * ----------------------------------------------------------------
 */

/* Has this log, here or before it was copied, been sealed under the text's origin? */
bool
opsflow_note_is_of_this_log(const CheckpointNote *note)
{
	static OpsflowPlan plan = {
		"SELECT 1 FROM opsflow.audit_checkpoints WHERE organization_id = $1 AND origin = $2 LIMIT 1",
		2,
		{UUIDOID, TEXTOID}};
	Datum values[2];

	if (note->database == NULL)
		return false;
	if (strcmp(note->database, opsflow_checkpoint_origin()) == 0)
		return true;
	values[0] = UUIDPGetDatum(&note->organization_id);
	values[1] = CStringGetTextDatum(note->database);
	return opsflow_read(&plan, values, 1) > 0;
}

/* A log that is gone leaves no row to tell who may ask for it. */
void
opsflow_note_require_reader(const pg_uuid_t *organization_id)
{
	const OpsflowContext *context = opsflow_context();

	if (has_privs_of_role(GetUserId(), get_role_oid(OPSFLOW_AUDITOR, false)) ||
		(context->has_organization && opsflow_uuid_equal(&context->organization_id, organization_id)))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_OPSFLOW_NOT_FOUND),
			 errmsg("organization %s has no ledger", opsflow_uuid_text(organization_id))));
}

/* Does the log begin with the tree of the text? */
static bool
is_prefix(const CheckpointNote *note, int64 log_size)
{
	MerkleFrontier frontier;
	uint8 root[AUDIT_HASH_LEN];

	if (note->tree_size > log_size ||
		!opsflow_tiles_frontier(opsflow_tiles_reader(&note->organization_id), note->tree_size, &frontier))
		return false;
	opsflow_merkle_root(&frontier, root);
	return memcmp(root, note->root, AUDIT_HASH_LEN) == 0;
}

static const char *
verify_note(const CheckpointNote *note)
{
	Checkpoint *newest;

	if (note->database == NULL)
		return "unknown origin";
	newest = opsflow_checkpoint_read(&note->organization_id, -1);
	if (newest == NULL)
		opsflow_note_require_reader(&note->organization_id);
	if (!opsflow_note_is_of_this_log(note))
		return "unknown origin";
	return !note->is_forged && is_prefix(note, newest ? newest->frontier.size : 0) ? "ok" : "tampered";
}

/*
 * opsflow.verify_checkpoint(checkpoint text) returns text
 *
 * ok: the log that the text names begins with the tree it describes.  tampered: it
 * does not.  unknown origin: the text is not of this database.
 */
Datum
opsflow_verify_checkpoint(PG_FUNCTION_ARGS)
{
	CheckpointNote *note = opsflow_note_parse(PG_GETARG_TEXT_PP(0));
	const char *verdict;

	opsflow_require_permission("audit.verify");
	SPI_connect();
	verdict = verify_note(note);
	SPI_finish();
	PG_RETURN_TEXT_P(cstring_to_text(verdict));
}

/* ----------------------------------------------------------------
 * Giving it out
 * ----------------------------------------------------------------
 */

/*
 * opsflow.audit_checkpoint(organization_id uuid) returns text
 *
 * The newest checkpoint of an organization, or (null) of the database's log, signed
 * if there is a key.
 */
Datum
opsflow_audit_checkpoint(PG_FUNCTION_ARGS)
{
	const pg_uuid_t *organization_id = PG_ARGISNULL(0) ? &opsflow_database_log : PG_GETARG_UUID_P(0);
	MemoryContext context = CurrentMemoryContext;
	Checkpoint *newest;
	char *body;
	char *signature;

	opsflow_require_permission("audit.verify");
	SPI_connect();
	newest = opsflow_checkpoint_newest(organization_id);
	body = opsflow_checkpoint_body(organization_id, newest->origin, newest->frontier.size, newest->root);
	body = MemoryContextStrdup(context, body);
	SPI_finish();
	signature = opsflow_note_signature(body);
	if (signature != NULL)
		body = psprintf("%s\n%s %s\n", body, pg_any_to_server(EM_DASH, strlen(EM_DASH), PG_UTF8), signature);
	PG_RETURN_TEXT_P(cstring_to_text(body));
}

/*
 * opsflow.audit_checkpoint_key() returns text
 *
 * What others need to verify signatures of checkpoints; NULL without a key.
 */
Datum
opsflow_audit_checkpoint_key(PG_FUNCTION_ARGS)
{
	char *key = opsflow_note_verifier_key();

	if (key == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(key));
}
