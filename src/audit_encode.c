/*
 * audit_encode.c
 *		The canonical encoding of a ledger entry, and its hashes.
 *
 * doc/audit.md specifies every byte.  In short: a version byte, then each
 * column in the order of AuditColumn as a presence byte (0 for NULL), and for
 * a value a 4-byte big-endian length and the bytes.
 *
 *		payload_digest = SHA-256(payload_salt || payload)
 *		hash           = SHA-256(0x00 || header)
 *
 * The second is the RFC 6962 leaf hash of the header.  Nothing here depends on
 * the session: neither on its time zone nor on its DateStyle.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "port/pg_bswap.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "audit.h"
#include "core.h"

#define ENCODING_VERSION 1

static const Oid column_types[AUDIT_PAYLOAD_END] = {
	[AUDIT_ORGANIZATION_ID] = UUIDOID,
	[AUDIT_LANE] = INT4OID,
	[AUDIT_SEQ] = INT8OID,
	[AUDIT_ID] = UUIDOID,
	[AUDIT_TIMESTAMP] = TIMESTAMPTZOID,
	[AUDIT_TXID] = INT8OID,
	[AUDIT_EVENT_TYPE] = TEXTOID,
	[AUDIT_ENTITY_TYPE] = TEXTOID,
	[AUDIT_ENTITY_ID] = UUIDOID,
	[AUDIT_ENTITY_KEY] = TEXTOID,
	[AUDIT_ACTION] = TEXTOID,
	[AUDIT_SEVERITY] = TEXTOID,
	[AUDIT_ACTOR_TYPE] = TEXTOID,
	[AUDIT_ACTOR_ID] = UUIDOID,
	[AUDIT_AI_MODEL] = TEXTOID,
	[AUDIT_CONFIDENCE_SCORE] = NUMERICOID,
	[AUDIT_TOKENS_USED] = INT4OID,
	[AUDIT_CORRELATION_ID] = UUIDOID,
	[AUDIT_PREV_HASH] = BYTEAOID,
	[AUDIT_PAYLOAD_DIGEST] = BYTEAOID,
	[AUDIT_ACTOR_NAME] = TEXTOID,
	[AUDIT_CHANGES] = JSONBOID,
	[AUDIT_PREVIOUS_VALUES] = JSONBOID,
	[AUDIT_NEW_VALUES] = JSONBOID,
	[AUDIT_EXECUTION_CONTEXT] = JSONBOID,
	[AUDIT_METADATA] = JSONBOID,
	[AUDIT_AI_REASONING] = TEXTOID,
	[AUDIT_SESSION_ID] = TEXTOID,
	[AUDIT_IP_ADDRESS] = INETOID,
	[AUDIT_USER_AGENT] = TEXTOID,
	[AUDIT_DATABASE_ROLE] = TEXTOID,
	[AUDIT_APPLICATION_NAME] = TEXTOID,
};

/* ----------------------------------------------------------------
 * Fields
 * ----------------------------------------------------------------
 */

/* A value of that length: its presence, length and room for it. */
static char *
put_field(StringInfo buf, int len)
{
	uint32		belen = pg_hton32((uint32) len);
	char	   *field;

	enlargeStringInfo(buf, len + 5);
	field = buf->data + buf->len;
	field[0] = 1;
	memcpy(field + 1, &belen, sizeof(belen));
	buf->len += len + 5;
	return field + 5;
}

static void
put_bytes(StringInfo buf, const void *bytes, int len)
{
	memcpy(put_field(buf, len), bytes, len);
}

static void
put_int64(StringInfo buf, int64 value)
{
	uint64		be = pg_hton64((uint64) value);

	put_bytes(buf, &be, sizeof(be));
}

/*
 * Text is hashed in UTF-8 whatever the encoding of the database, so that the
 * ledger still verifies in a database of another encoding.  SQL_ASCII does not
 * say what its bytes mean: they are taken as they are.
 */
static void
put_text(StringInfo buf, const char *text, int len)
{
	char	   *utf8 = unconstify(char *, text);

	if (GetDatabaseEncoding() != PG_SQL_ASCII)
		utf8 = pg_server_to_any(text, len, PG_UTF8);
	if (utf8 == text)
		put_bytes(buf, text, len);
	else
	{
		put_bytes(buf, utf8, strlen(utf8));
		pfree(utf8);
	}
}

static void
put_varlena(StringInfo buf, Oid type, Datum value)
{
	struct varlena *packed = PG_DETOAST_DATUM_PACKED(value);

	if (type == TEXTOID)
		put_text(buf, VARDATA_ANY(packed), VARSIZE_ANY_EXHDR(packed));
	else
		put_bytes(buf, VARDATA_ANY(packed), VARSIZE_ANY_EXHDR(packed));
}

static void
put_jsonb(StringInfo buf, Datum value)
{
	Jsonb	   *jsonb = DatumGetJsonbP(value);
	int			start = buf->len;
	uint32		belen;

	if (GetDatabaseEncoding() != PG_UTF8)
	{
		StringInfoData text;

		initStringInfo(&text);
		opsflow_audit_jsonb_text(&text, jsonb);
		put_text(buf, text.data, text.len);
		pfree(text.data);
		return;
	}

	/* The text goes straight into the buffer; its length is known after. */
	(void) put_field(buf, 0);
	opsflow_audit_jsonb_text(buf, jsonb);
	belen = pg_hton32((uint32) (buf->len - start - 5));
	memcpy(buf->data + start + 1, &belen, sizeof(belen));
}

static void
put_text_output(StringInfo buf, PGFunction output, Datum value)
{
	char	   *text = DatumGetCString(DirectFunctionCall1(output, value));

	put_bytes(buf, text, strlen(text));
	pfree(text);
}

static void
put_value(StringInfo buf, Oid type, Datum value)
{
	static const int64 epoch_difference =
		(POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY;

	switch (type)
	{
		case UUIDOID:
			put_bytes(buf, DatumGetUUIDP(value)->data, UUID_LEN);
			break;
		case INT4OID:
			put_int64(buf, DatumGetInt32(value));
			break;
		case INT8OID:
			put_int64(buf, DatumGetInt64(value));
			break;
		case TIMESTAMPTZOID:
			put_int64(buf, DatumGetTimestampTz(value) + epoch_difference);
			break;
		case TEXTOID:
		case BYTEAOID:
			put_varlena(buf, type, value);
			break;
		case JSONBOID:
			put_jsonb(buf, value);
			break;
		case NUMERICOID:
			put_text_output(buf, numeric_out, value);
			break;
		case INETOID:
			put_text_output(buf, inet_out, value);
			break;
		default:
			elog(ERROR, "no canonical encoding for type %u", type);
	}
}

static void
put_columns(StringInfo buf, const AuditEntry *entry, int from, int to)
{
	resetStringInfo(buf);
	appendStringInfoCharMacro(buf, ENCODING_VERSION);
	for (int column = from; column < to; column++)
	{
		if (entry->nulls[column])
			appendStringInfoCharMacro(buf, 0);
		else
			put_value(buf, column_types[column], entry->values[column]);
	}
}

void
opsflow_audit_encode_header(StringInfo buf, const AuditEntry *entry)
{
	put_columns(buf, entry, 0, AUDIT_HEADER_END);
}

void
opsflow_audit_encode_payload(StringInfo buf, const AuditEntry *entry)
{
	put_columns(buf, entry, AUDIT_HEADER_END, AUDIT_PAYLOAD_END);
}

/* ----------------------------------------------------------------
 * Hashes
 * ----------------------------------------------------------------
 */

/* What the first entry of a lane links to. */
void
opsflow_audit_genesis(const pg_uuid_t *organization_id, int32 lane, uint8 *hash)
{
	uint64		belane = pg_hton64((uint64) lane);

	opsflow_sha256(organization_id->data, UUID_LEN, &belane, sizeof(belane), hash);
}

void
opsflow_audit_payload_digest(StringInfo buf, const AuditEntry *entry, uint8 *digest)
{
	struct varlena *salt = PG_DETOAST_DATUM_PACKED(entry->values[AUDIT_PAYLOAD_SALT]);

	opsflow_audit_encode_payload(buf, entry);
	opsflow_sha256(VARDATA_ANY(salt), VARSIZE_ANY_EXHDR(salt), buf->data, buf->len, digest);
}

void
opsflow_audit_entry_hash(StringInfo buf, const AuditEntry *entry, uint8 *hash)
{
	opsflow_audit_encode_header(buf, entry);
	opsflow_sha256("\0", 1, buf->data, buf->len, hash);
}
