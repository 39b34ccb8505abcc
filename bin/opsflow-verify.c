/*
 * opsflow-verify.c
 *		Verifies an export of an opsflow ledger, without the database.
 *
 * Reads the lines that opsflow.export_audit() wrote, computes every hash again
 * and follows the lanes and the Merkle tree to the root, which it compares with
 * that of the export and with a checkpoint that was kept outside.  doc/audit.md
 * specifies the lines and the bytes in them.
 *
 * Nothing in the input is trusted, no length, no order, no number.  What is no
 * export at all ends with exit status 2; what is one and says something else
 * than was recorded, with 1.
 *
 * The main thread reads batches of whole lines and, in the order of the file,
 * folds what came of them into the lanes and the tree.  In between, the other
 * threads take the lines apart, decode them in place and hash them.  Memory: a
 * fixed number of batches (one grows for a line that is longer), 32 bytes for
 * each level of the tree, and what there is to know of each lane.
 *
 * Needs the C library, POSIX threads and libcrypto:
 *		cc -O2 -o opsflow-verify opsflow-verify.c -lcrypto -lpthread
 */
#define _GNU_SOURCE 1
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <openssl/evp.h>

#define OPSFLOW_VERSION "0.1.0"

#define EXIT_OK 0
#define EXIT_TAMPERED 1
#define EXIT_UNUSABLE 2

#define HASH_LEN 32
#define UUID_LEN 16
#define SALT_LEN 16
#define UUID_TEXT_LEN 36
#define KEY_ID_LEN 4
#define PUBLIC_KEY_LEN 32
#define SIGNATURE_LEN 64
#define TREE_LEVELS 63

#define BATCH_SIZE ((size_t) 1 << 20)
#define MAX_LINE ((size_t) 1 << 29)
#define MAX_CHECKPOINT 65536
#define MAX_WORKERS 8
#define MAX_COMPLAINTS 20

/* A piece of a line, or what it was decoded to. */
typedef struct Text
{
	char *start;
	size_t len;
} Text;

/* ----------------------------------------------------------------
 * Memory and SHA-256
 * ----------------------------------------------------------------
 */

static void
die(const char *what)
{
	fprintf(stderr, "opsflow-verify: %s\n", what);
	exit(EXIT_UNUSABLE);
}

static void *
more_memory(void *old, size_t size)
{
	void *new = realloc(old, size);

	if (new == NULL)
		die("out of memory");
	return new;
}

/* One per thread; the digest is fetched once. */
typedef EVP_MD_CTX Sha;

static Sha *
sha_create(void)
{
	Sha *sha = EVP_MD_CTX_new();

	if (sha == NULL || !EVP_DigestInit_ex(sha, EVP_sha256(), NULL))
		die("libcrypto has no SHA-256");
	return sha;
}

/* SHA-256 of two byte strings, one after the other. */
static void
sha256(Sha *sha, const void *first, size_t first_len, const void *second, size_t second_len,
	   uint8_t *hash)
{
	if (!EVP_DigestInit_ex(sha, NULL, NULL) ||
		!EVP_DigestUpdate(sha, first, first_len) ||
		!EVP_DigestUpdate(sha, second, second_len) ||
		!EVP_DigestFinal_ex(sha, hash, NULL))
		die("libcrypto failed to compute SHA-256");
}

static void
sha256_node(Sha *sha, const uint8_t *left, const uint8_t *right, uint8_t *hash)
{
	uint8_t node[1 + HASH_LEN];

	node[0] = 1;
	memcpy(node + 1, left, HASH_LEN);
	sha256(sha, node, sizeof(node), right, HASH_LEN, hash);
}

/* ----------------------------------------------------------------
 * Base64, hexadecimal, UUIDs
 * ----------------------------------------------------------------
 */

/* What each character stands for, shifted to each of four places. */
static uint32_t base64_values[4][256];
#define NO_BASE64 0x01000000

static const char base64_alphabet[] =
	"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static void
base64_init(void)
{
	for (int place = 0; place < 4; place++)
	{
		for (int c = 0; c < 256; c++)
			base64_values[place][c] = NO_BASE64;
		for (int value = 0; value < 64; value++)
			base64_values[place][(uint8_t) base64_alphabet[value]] = (uint32_t) value << (18 - 6 * place);
	}
}

static uint32_t
base64_group(const uint8_t *in)
{
	return base64_values[0][in[0]] | base64_values[1][in[1]] |
		base64_values[2][in[2]] | base64_values[3][in[3]];
}

/* The last group, where padding can be; bits that stand for nothing are zero. */
static bool
base64_last_group(const uint8_t *in, uint8_t *out, size_t *len)
{
	uint8_t full[4];
	int padding = (in[3] == '=') + (in[3] == '=' && in[2] == '=');
	uint32_t group;

	memcpy(full, in, 4);
	memset(full + 4 - padding, 'A', padding);
	group = base64_group(full);
	if (group >= NO_BASE64 || (group & ((1U << (8 * padding)) - 1)) != 0)
		return false;
	for (int i = 0; i < 3 - padding; i++)
		out[(*len)++] = group >> (16 - 8 * i);
	return true;
}

/* Decodes in place: three bytes never reach past the four they come from. */
static bool
base64_decode(Text *text)
{
	const uint8_t *in = (const uint8_t *) text->start;
	uint8_t *out = (uint8_t *) text->start;
	size_t groups = text->len / 4;
	size_t len = 0;

	if (text->len % 4 != 0)
		return false;
	for (; groups > 1; groups--, in += 4, len += 3)
	{
		uint32_t group = base64_group(in);

		if (group >= NO_BASE64)
			return false;
		out[len] = group >> 16;
		out[len + 1] = group >> 8;
		out[len + 2] = group;
	}
	if (groups == 1 && !base64_last_group(in, out, &len))
		return false;
	text->len = len;
	return true;
}

/* Decodes exactly len bytes, and leaves the text as it is. */
static bool
base64_fixed(Text text, uint8_t *bytes, size_t len)
{
	char copy[128];

	if (text.len > sizeof(copy))
		return false;
	if (text.len > 0)
		memcpy(copy, text.start, text.len);
	text.start = copy;
	if (!base64_decode(&text) || text.len != len)
		return false;
	memcpy(bytes, copy, len);
	return true;
}

static const char *
base64_hash(const uint8_t *hash)
{
	static char text[4 * ((HASH_LEN + 2) / 3) + 1];

	EVP_EncodeBlock((unsigned char *) text, hash, HASH_LEN);
	return text;
}

static bool
hex_decode(const char *hex, uint8_t *bytes, size_t len)
{
	for (size_t i = 0; i < 2 * len; i++)
	{
		static const char digits[] = "0123456789abcdef";
		const char *digit = strchr(digits, hex[i]);

		if (digit == NULL || *digit == '\0')
			return false;
		bytes[i / 2] = (i % 2 == 0 ? 0 : bytes[i / 2] << 4) | (digit - digits);
	}
	return true;
}

/* Canonical text: lower case, with hyphens. */
static bool
uuid_decode(const char *text, size_t len, uint8_t *uuid)
{
	char hex[2 * UUID_LEN];
	int digits = 0;

	if (len != UUID_TEXT_LEN)
		return false;
	for (int i = 0; i < UUID_TEXT_LEN; i++)
	{
		bool hyphen = i == 8 || i == 13 || i == 18 || i == 23;

		if (hyphen != (text[i] == '-'))
			return false;
		if (!hyphen)
			hex[digits++] = text[i];
	}
	return hex_decode(hex, uuid, UUID_LEN);
}

/* ----------------------------------------------------------------
 * A line: a JSON object of the few shapes that an export has
 * ----------------------------------------------------------------
 */

typedef enum Key
{
	KEY_EXPORT,
	KEY_ORGANIZATION,
	KEY_ORIGINS,
	KEY_SINCE,
	KEY_UNTIL,
	KEY_TREE_SIZE,
	KEY_HASH,
	KEY_PRUNED,
	KEY_LANE,
	KEY_FIRST_SEQ,
	KEY_LAST_SEQ,
	KEY_LAST_HASH,
	KEY_ENTRY_LANE,
	KEY_ENTRY_SEQ,
	KEY_LEAF,
	KEY_HEADER,
	KEY_PAYLOAD,
	KEY_SALT,
	KEY_HEIGHT,
	KEY_NODE,
	KEY_END,
	KEY_ENTRIES,
	KEY_CHECKPOINT,
	KEY_SIGNATURE,
	KEYS
} Key;

#define BIT(key) ((uint32_t) 1 << (key))

typedef enum Shape
{
	SHAPE_NUMBER,
	SHAPE_STRING,
	SHAPE_STRINGS,
	SHAPE_TRUE,
	SHAPE_OBJECT
} Shape;

#define NAME(name) name, sizeof(name) - 1

static const struct
{
	const char *name;
	size_t len;
	Shape shape;
	bool nullable;
} keys[KEYS] = {
	[KEY_EXPORT] = {NAME("opsflow_audit_export"), SHAPE_NUMBER, false},
	[KEY_ORGANIZATION] = {NAME("organization_id"), SHAPE_STRING, false},
	[KEY_ORIGINS] = {NAME("origins"), SHAPE_STRINGS, false},
	[KEY_SINCE] = {NAME("since"), SHAPE_STRING, true},
	[KEY_UNTIL] = {NAME("until"), SHAPE_STRING, true},
	[KEY_TREE_SIZE] = {NAME("tree_size"), SHAPE_NUMBER, false},
	[KEY_HASH] = {NAME("hash"), SHAPE_STRING, false},
	[KEY_PRUNED] = {NAME("pruned"), SHAPE_OBJECT, false},
	[KEY_LANE] = {NAME("lane"), SHAPE_NUMBER, false},
	[KEY_FIRST_SEQ] = {NAME("first_seq"), SHAPE_NUMBER, false},
	[KEY_LAST_SEQ] = {NAME("last_seq"), SHAPE_NUMBER, false},
	[KEY_LAST_HASH] = {NAME("last_hash"), SHAPE_STRING, false},
	[KEY_ENTRY_LANE] = {NAME("entry_lane"), SHAPE_NUMBER, false},
	[KEY_ENTRY_SEQ] = {NAME("entry_seq"), SHAPE_NUMBER, false},
	[KEY_LEAF] = {NAME("leaf"), SHAPE_NUMBER, false},
	[KEY_HEADER] = {NAME("header"), SHAPE_STRING, false},
	[KEY_PAYLOAD] = {NAME("payload"), SHAPE_STRING, true},
	[KEY_SALT] = {NAME("salt"), SHAPE_STRING, true},
	[KEY_HEIGHT] = {NAME("height"), SHAPE_NUMBER, false},
	[KEY_NODE] = {NAME("node"), SHAPE_STRING, false},
	[KEY_END] = {NAME("end"), SHAPE_TRUE, false},
	[KEY_ENTRIES] = {NAME("entries"), SHAPE_NUMBER, false},
	[KEY_CHECKPOINT] = {NAME("checkpoint"), SHAPE_STRINGS, true},
	[KEY_SIGNATURE] = {NAME("signature"), SHAPE_STRING, true},
};

/* The order in which they come, where it matters: see line_in_order(). */
typedef enum Kind
{
	KIND_FIRST,
	KIND_PRUNED,
	KIND_LEAF,
	KIND_NODE,
	KIND_OPEN,					/* an entry that is not sealed yet */
	KIND_END,
	KIND_MALFORMED
} Kind;

#define FIRST_MEMBERS                                                             \
	(BIT(KEY_EXPORT) | BIT(KEY_ORGANIZATION) | BIT(KEY_ORIGINS) | BIT(KEY_SINCE) | \
	 BIT(KEY_UNTIL) | BIT(KEY_TREE_SIZE) | BIT(KEY_HASH))
#define PRUNED_MEMBERS                                                        \
	(BIT(KEY_LANE) | BIT(KEY_FIRST_SEQ) | BIT(KEY_LAST_SEQ) | BIT(KEY_LAST_HASH) | \
	 BIT(KEY_ENTRY_LANE) | BIT(KEY_ENTRY_SEQ))

static const struct
{
	Kind kind;
	uint32_t members;
} kinds[] = {
	{KIND_LEAF, BIT(KEY_LEAF) | BIT(KEY_HEADER) | BIT(KEY_PAYLOAD) | BIT(KEY_SALT)},
	{KIND_NODE, BIT(KEY_LEAF) | BIT(KEY_HEIGHT) | BIT(KEY_NODE)},
	{KIND_OPEN, BIT(KEY_HEADER) | BIT(KEY_PAYLOAD) | BIT(KEY_SALT)},
	{KIND_PRUNED, BIT(KEY_PRUNED) | PRUNED_MEMBERS},
	{KIND_FIRST, FIRST_MEMBERS},
	{KIND_END, BIT(KEY_END) | BIT(KEY_ENTRIES) | BIT(KEY_CHECKPOINT) | BIT(KEY_SIGNATURE)},
};

/* The members of a line; what is not in present has no value. */
typedef struct Members
{
	uint32_t present;
	uint32_t null;
	int64_t number[KEYS];
	Text text[KEYS];			/* a string, or strings with their commas */
} Members;

typedef struct Parser
{
	char *at;
	char *end;
	const char *error;
} Parser;

static bool
parse_error(Parser *p, const char *error)
{
	if (p->error == NULL)
		p->error = error;
	return false;
}

static void
skip_blanks(Parser *p)
{
	while (p->at < p->end && (*p->at == ' ' || *p->at == '\t'))
		p->at++;
}

static bool
take(Parser *p, char c)
{
	skip_blanks(p);
	if (p->at == p->end || *p->at != c)
		return false;
	p->at++;
	return true;
}

static bool
take_word(Parser *p, const char *word)
{
	size_t len = strlen(word);

	skip_blanks(p);
	if ((size_t) (p->end - p->at) < len || memcmp(p->at, word, len) != 0)
		return false;
	p->at += len;
	return true;
}

/*
 * No string in an export needs an escape.  The long ones are base64, whose
 * decoder looks at every character; the others are looked at here.
 */
static bool
parse_string(Parser *p, bool look, Text *text)
{
	char *quote;

	if (!take(p, '"'))
		return parse_error(p, "a string is expected");
	quote = memchr(p->at, '"', p->end - p->at);
	if (quote == NULL)
		return parse_error(p, "a string has no end");
	text->start = p->at;
	text->len = quote - p->at;
	for (; look && p->at < quote; p->at++)
	{
		if (*p->at < ' ' || *p->at > '~' || *p->at == '\\')
			return parse_error(p, "a character that no export has");
	}
	p->at = quote + 1;
	return true;
}

/* Whole, not negative, without leading zeros, below 2^63. */
static bool
parse_number(Parser *p, int64_t *number)
{
	char *first;
	int64_t value = 0;

	skip_blanks(p);
	for (first = p->at; p->at < p->end && *p->at >= '0' && *p->at <= '9'; p->at++)
	{
		int digit = *p->at - '0';

		if (value > (INT64_MAX - digit) / 10)
			return parse_error(p, "a number is too large");
		value = value * 10 + digit;
	}
	if (p->at == first || (*first == '0' && p->at - first > 1))
		return parse_error(p, "a whole number is expected");
	*number = value;
	return true;
}

static bool
parse_strings(Parser *p, Text *strings)
{
	Text each;

	if (!take(p, '['))
		return parse_error(p, "a list is expected");
	strings->start = p->at;
	if (!take(p, ']'))
	{
		do
		{
			if (!parse_string(p, true, &each))
				return false;
		} while (take(p, ','));
		if (!take(p, ']'))
			return parse_error(p, "a list has no end");
	}
	strings->len = p->at - 1 - strings->start;
	return true;
}

static bool parse_object(Parser *p, uint32_t allowed, Members *members);

static bool
parse_value(Parser *p, Key key, Members *members)
{
	bool base64 = (BIT(key) & (BIT(KEY_HEADER) | BIT(KEY_PAYLOAD) | BIT(KEY_SALT) | BIT(KEY_NODE))) != 0;

	if (keys[key].nullable && take_word(p, "null"))
	{
		members->null |= BIT(key);
		return true;
	}
	switch (keys[key].shape)
	{
		case SHAPE_NUMBER:
			return parse_number(p, &members->number[key]);
		case SHAPE_STRING:
			return parse_string(p, !base64, &members->text[key]);
		case SHAPE_STRINGS:
			return parse_strings(p, &members->text[key]);
		case SHAPE_TRUE:
			return take_word(p, "true") || parse_error(p, "true is expected");
		case SHAPE_OBJECT:
			return parse_object(p, PRUNED_MEMBERS, members);
	}
	return false;
}

static Key
find_key(Text name, uint32_t allowed)
{
	int key;

	for (key = 0; key < KEYS; key++)
	{
		if ((allowed & BIT(key)) != 0 && keys[key].len == name.len &&
			memcmp(keys[key].name, name.start, name.len) == 0)
			break;
	}
	return key;
}

static bool
parse_object(Parser *p, uint32_t allowed, Members *members)
{
	if (!take(p, '{'))
		return parse_error(p, "a JSON object is expected");
	do
	{
		Text name;
		Key key;

		if (!parse_string(p, true, &name))
			return false;
		key = find_key(name, allowed);
		if (key == KEYS)
			return parse_error(p, "a key that no export has");
		if (members->present & BIT(key))
			return parse_error(p, "a key for the second time");
		members->present |= BIT(key);
		if (!take(p, ':'))
			return parse_error(p, "a colon is expected");
		if (!parse_value(p, key, members))
			return false;
	} while (take(p, ','));
	return take(p, '}') || parse_error(p, "a comma or the end of the object is expected");
}

/* Sets the members and returns the kind of the line. */
static Kind
parse_line(Parser *p, Members *members)
{
	members->present = members->null = 0;
	if (!parse_object(p, (BIT(KEYS) - 1) & ~PRUNED_MEMBERS, members))
		return KIND_MALFORMED;
	skip_blanks(p);
	if (p->at < p->end)
	{
		(void) parse_error(p, "something follows the object");
		return KIND_MALFORMED;
	}
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
	{
		if (kinds[i].members == members->present)
			return kinds[i].kind;
	}
	(void) parse_error(p, "keys that do not make a line of an export");
	return KIND_MALFORMED;
}

/* The next of the strings that parse_strings() found. */
static bool
next_string(Text *strings, Text *string)
{
	Parser p = {strings->start, strings->start + strings->len, NULL};

	if (!parse_string(&p, false, string))
		return false;
	(void) take(&p, ',');
	strings->len = p.end - p.at;
	strings->start = p.at;
	return true;
}

/* ----------------------------------------------------------------
 * The canonical encoding of an entry
 * ----------------------------------------------------------------
 */

typedef enum Type
{
	TYPE_UUID,
	TYPE_NUMBER,
	TYPE_TIME,
	TYPE_TEXT,
	TYPE_NUMERIC,
	TYPE_JSON,
	TYPE_HASH
} Type;

typedef struct Column
{
	const char *name;
	Type type;
	bool required;
} Column;

enum
{
	HEADER_ORGANIZATION,
	HEADER_LANE,
	HEADER_SEQ,
	HEADER_ID,
	HEADER_TIMESTAMP,
	HEADER_ENTITY_TYPE = 7,
	HEADER_ENTITY_ID,
	HEADER_ACTION = 10,
	HEADER_PREV_HASH = 18,
	HEADER_PAYLOAD_DIGEST,
	HEADER_COLUMNS,

	PAYLOAD_METADATA = 5,
	PAYLOAD_COLUMNS = 12
};

static const Column header_columns[HEADER_COLUMNS] = {
	{"organization_id", TYPE_UUID, true},
	{"lane", TYPE_NUMBER, true},
	{"seq", TYPE_NUMBER, true},
	{"id", TYPE_UUID, true},
	{"timestamp", TYPE_TIME, true},
	{"txid", TYPE_NUMBER, true},
	{"event_type", TYPE_TEXT, true},
	{"entity_type", TYPE_TEXT, true},
	{"entity_id", TYPE_UUID, false},
	{"entity_key", TYPE_TEXT, false},
	{"action", TYPE_TEXT, true},
	{"severity", TYPE_TEXT, true},
	{"actor_type", TYPE_TEXT, true},
	{"actor_id", TYPE_UUID, false},
	{"ai_model", TYPE_TEXT, false},
	{"confidence_score", TYPE_NUMERIC, false},
	{"tokens_used", TYPE_NUMBER, false},
	{"correlation_id", TYPE_UUID, false},
	{"prev_hash", TYPE_HASH, true},
	{"payload_digest", TYPE_HASH, true},
};

static const Column payload_columns[PAYLOAD_COLUMNS] = {
	{"actor_name", TYPE_TEXT, false},
	{"changes", TYPE_JSON, false},
	{"previous_values", TYPE_JSON, false},
	{"new_values", TYPE_JSON, false},
	{"execution_context", TYPE_JSON, false},
	{"metadata", TYPE_JSON, false},
	{"ai_reasoning", TYPE_TEXT, false},
	{"session_id", TYPE_TEXT, false},
	{"ip_address", TYPE_TEXT, false},
	{"user_agent", TYPE_TEXT, false},
	{"database_role", TYPE_TEXT, false},
	{"application_name", TYPE_TEXT, false},
};

/* Lengths that a type has; 0 for any. */
static const size_t type_lengths[] = {
	[TYPE_UUID] = UUID_LEN,
	[TYPE_NUMBER] = 8,
	[TYPE_TIME] = 8,
	[TYPE_HASH] = HASH_LEN,
};

static uint64_t
big_endian(const char *bytes, int len)
{
	uint64_t value = 0;

	for (int i = 0; i < len; i++)
		value = value << 8 | (uint8_t) bytes[i];
	return value;
}

/*
 * A version byte and the fields, no byte more; a NULL has no start.
 */
static bool
split_fields(Text bytes, const Column *columns, int n, Text *fields)
{
	const char *end = bytes.start + bytes.len;
	char *at = bytes.start;

	if (bytes.len < 1 || *at++ != 1)
		return false;
	for (int i = 0; i < n; i++)
	{
		size_t fixed;

		if (at == end || (*at != 0 && *at != 1))
			return false;
		fields[i].start = NULL;
		fields[i].len = 0;
		if (*at++ == 0)
		{
			if (columns[i].required)
				return false;
			continue;
		}
		if (end - at < 4)
			return false;
		fields[i].len = big_endian(at, 4);
		at += 4;
		if ((size_t) (end - at) < fields[i].len)
			return false;
		fixed = type_lengths[columns[i].type];
		if (fixed != 0 && fields[i].len != fixed)
			return false;
		fields[i].start = at;
		at += fields[i].len;
	}
	return at == end;
}

/* ----------------------------------------------------------------
 * What comes of a line before the lines around it are looked at
 * ----------------------------------------------------------------
 */

/* Entries that the ledger makes about itself. */
typedef enum Subject
{
	SUBJECT_OTHER,
	SUBJECT_REDACTION,			/* entity_id is the entry that was redacted */
	SUBJECT_PRUNE				/* metadata says which entries are gone */
} Subject;

typedef struct Record
{
	Kind kind;
	Text line;					/* decoded in place, but for rare kinds */
	const char *problem;		/* what is wrong with the line by itself */
	size_t column;				/* where, if it is malformed */
	int64_t leaf;
	int64_t height;
	uint8_t hash[HASH_LEN];		/* of the leaf or node */
	/* an entry */
	bool readable;				/* its header says what follows */
	bool redacted;
	int64_t lane;
	int64_t seq;
	int64_t timestamp;
	uint8_t organization_id[UUID_LEN];
	uint8_t id[UUID_LEN];
	uint8_t entity_id[UUID_LEN];
	Subject subject;
	uint8_t prev_hash[HASH_LEN];
	Text header;
	Text payload;
} Record;

static void
malformed(Record *r, const char *problem, const char *at)
{
	r->kind = KIND_MALFORMED;
	r->problem = problem;
	r->column = at - r->line.start + 1;
}

/* The payload says what was recorded if it has the digest in the header. */
static const char *
payload_problem(Sha *sha, const Members *members, Text payload, Text salt, Text digest)
{
	Text fields[PAYLOAD_COLUMNS];
	uint8_t actual[HASH_LEN];
	bool no_payload = (members->null & BIT(KEY_PAYLOAD)) != 0;
	bool no_salt = (members->null & BIT(KEY_SALT)) != 0;

	if (no_payload && no_salt)
		return NULL;
	if (no_payload || no_salt)
		return "of payload and salt only one is there";
	sha256(sha, salt.start, salt.len, payload.start, payload.len, actual);
	if (salt.len != SALT_LEN || memcmp(actual, digest.start, HASH_LEN) != 0)
		return "the payload is not what was recorded: the digest in the header is another";
	if (!split_fields(payload, payload_columns, PAYLOAD_COLUMNS, fields))
		return "the payload is not in the canonical encoding";
	return NULL;
}

static bool
text_equals(Text text, const char *string)
{
	return text.len == strlen(string) && memcmp(text.start, string, text.len) == 0;
}

/* What others have to know of an entry, from the fields of its header. */
static void
read_header(Record *r, const Text *fields)
{
	memcpy(r->organization_id, fields[HEADER_ORGANIZATION].start, UUID_LEN);
	memcpy(r->id, fields[HEADER_ID].start, UUID_LEN);
	memcpy(r->prev_hash, fields[HEADER_PREV_HASH].start, HASH_LEN);
	r->lane = (int64_t) big_endian(fields[HEADER_LANE].start, 8);
	r->seq = (int64_t) big_endian(fields[HEADER_SEQ].start, 8);
	r->timestamp = (int64_t) big_endian(fields[HEADER_TIMESTAMP].start, 8);
	r->subject = SUBJECT_OTHER;
	if (text_equals(fields[HEADER_ACTION], "redact") && text_equals(fields[HEADER_ENTITY_TYPE], "audit_entry") &&
		fields[HEADER_ENTITY_ID].start != NULL)
	{
		r->subject = SUBJECT_REDACTION;
		memcpy(r->entity_id, fields[HEADER_ENTITY_ID].start, UUID_LEN);
	}
	else if (text_equals(fields[HEADER_ACTION], "prune") && text_equals(fields[HEADER_ENTITY_TYPE], "audit_partition"))
		r->subject = SUBJECT_PRUNE;
}

static void
read_entry(Record *r, Sha *sha, Members *members)
{
	Text header = members->text[KEY_HEADER];
	Text payload = members->text[KEY_PAYLOAD];
	Text salt = members->text[KEY_SALT];
	Text fields[HEADER_COLUMNS];

	r->redacted = (members->null & BIT(KEY_PAYLOAD)) != 0;
	if (!base64_decode(&header) ||
		(!r->redacted && !base64_decode(&payload)) ||
		((members->null & BIT(KEY_SALT)) == 0 && !base64_decode(&salt)))
	{
		malformed(r, "a string is not base64", header.start);
		return;
	}
	r->header = header;
	r->payload = payload;
	sha256(sha, "\0", 1, header.start, header.len, r->hash);
	r->readable = split_fields(header, header_columns, HEADER_COLUMNS, fields);
	if (!r->readable)
	{
		r->problem = "the header is not in the canonical encoding";
		return;
	}
	read_header(r, fields);
	r->problem = payload_problem(sha, members, payload, salt, fields[HEADER_PAYLOAD_DIGEST]);
}

/* Takes a line apart, decodes and hashes what is in it. */
static void
read_line(Record *r, Sha *sha)
{
	Members members;
	Parser p = {r->line.start, r->line.start + r->line.len, NULL};

	if (r->line.len > 0 && p.end[-1] == '\r')
		p.end--;
	r->problem = NULL;
	r->readable = r->redacted = false;
	r->height = 0;
	r->kind = parse_line(&p, &members);
	switch (r->kind)
	{
		case KIND_LEAF:
			r->leaf = members.number[KEY_LEAF];
			read_entry(r, sha, &members);
			break;
		case KIND_OPEN:
			read_entry(r, sha, &members);
			break;
		case KIND_NODE:
			r->leaf = members.number[KEY_LEAF];
			r->height = members.number[KEY_HEIGHT];
			if (!base64_fixed(members.text[KEY_NODE], r->hash, HASH_LEN))
				malformed(r, "a node is 32 bytes in base64", members.text[KEY_NODE].start);
			break;
		case KIND_MALFORMED:
			malformed(r, p.error, p.at);
			break;
		default:
			break;				/* rare: parsed again when it is its turn */
	}
}

/* ----------------------------------------------------------------
 * Batches of lines
 * ----------------------------------------------------------------
 */

typedef struct Batch
{
	char *data;
	size_t size;
	size_t len;
	bool cut;					/* ends without a newline */
	Record *records;
	size_t nrecords;
	size_t room;
	bool done;
} Batch;

static void
read_batch(Batch *b, Sha *sha)
{
	char *at = b->data;
	char *end = b->data + b->len;

	b->nrecords = 0;
	while (at < end)
	{
		char *newline = memchr(at, '\n', end - at);
		Record *r;

		if (b->nrecords == b->room)
		{
			b->room = b->room == 0 ? 1024 : 2 * b->room;
			b->records = more_memory(b->records, b->room * sizeof(Record));
		}
		r = &b->records[b->nrecords++];
		r->line.start = at;
		r->line.len = (newline != NULL ? newline : end) - at;
		read_line(r, sha);
		if (r->kind == KIND_MALFORMED)
			break;				/* nothing after it will be looked at */
		at += r->line.len + 1;
	}
}

/* Where the batches come from: whole lines, in the order of the file. */
typedef struct Source
{
	int fd;
	const char *name;
	int64_t total;				/* bytes, or 0 if it is no file */
	int64_t read;
	bool ended;
	const char *failure;		/* why it cannot be read on */
	char *rest;					/* the beginning of a line of the next batch */
	size_t rest_len;
	size_t rest_size;
} Source;

static void
keep_rest(Source *s, const char *rest, size_t len)
{
	if (len > s->rest_size)
	{
		s->rest = more_memory(s->rest, len);
		s->rest_size = len;
	}
	if (len > 0)
		memcpy(s->rest, rest, len);
	s->rest_len = len;
}

static void
read_up_to(Source *s, Batch *b, size_t size)
{
	while (b->len < size && !s->ended)
	{
		ssize_t n = read(s->fd, b->data + b->len, size - b->len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			s->failure = strerror(errno);
		if (n <= 0)
			s->ended = true;
		else
		{
			b->len += n;
			s->read += n;
		}
	}
}

/* Fills a batch with whole lines, as many as fit, or one that is longer. */
static void
fill_batch(Source *s, Batch *b)
{
	size_t size = s->rest_len < BATCH_SIZE ? BATCH_SIZE : 2 * s->rest_len;
	char *newline;

	b->len = 0;
	b->done = b->cut = false;
	for (;; size *= 2)
	{
		if (b->size < size || b->size > 4 * size)
		{
			b->data = more_memory(b->data, size);
			b->size = size;
		}
		if (b->len == 0 && s->rest_len > 0)
		{
			memcpy(b->data, s->rest, s->rest_len);
			b->len = s->rest_len;
			s->rest_len = 0;
		}
		read_up_to(s, b, size);
		newline = b->len > 0 ? memrchr(b->data, '\n', b->len) : NULL;
		if (s->ended)
		{
			b->cut = b->len > 0 && b->data[b->len - 1] != '\n';
			return;
		}
		if (newline != NULL)
		{
			keep_rest(s, newline + 1, b->data + b->len - (newline + 1));
			b->len = newline + 1 - b->data;
			return;
		}
		if (size >= MAX_LINE)
		{
			s->failure = "a line is longer than 512 MiB";
			s->ended = true;
			b->len = 0;
			return;
		}
	}
}

/* ----------------------------------------------------------------
 * The threads that take lines apart
 * ----------------------------------------------------------------
 */

typedef struct Pool
{
	pthread_mutex_t mutex;
	pthread_cond_t filled;
	pthread_cond_t done;
	Batch *batches;
	int nbatches;
	/* Batches ever filled, taken by a worker, folded. */
	uint64_t nfilled;
	uint64_t ntaken;
	uint64_t nfolded;
	bool stop;
	pthread_t workers[MAX_WORKERS];
	int nworkers;
} Pool;

static void *
work(void *arg)
{
	Pool *pool = arg;
	Sha *sha = sha_create();

	pthread_mutex_lock(&pool->mutex);
	for (;;)
	{
		Batch *b;

		while (!pool->stop && pool->ntaken == pool->nfilled)
			pthread_cond_wait(&pool->filled, &pool->mutex);
		if (pool->stop)
			break;
		b = &pool->batches[pool->ntaken++ % pool->nbatches];
		pthread_mutex_unlock(&pool->mutex);
		read_batch(b, sha);
		pthread_mutex_lock(&pool->mutex);
		b->done = true;
		pthread_cond_signal(&pool->done);
	}
	pthread_mutex_unlock(&pool->mutex);
	EVP_MD_CTX_free(sha);
	return NULL;
}

static void
pool_start(Pool *pool)
{
	long cores = sysconf(_SC_NPROCESSORS_ONLN);
	int wanted = (int) (cores < MAX_WORKERS ? cores : MAX_WORKERS);

	if (wanted < 2)
		wanted = 2;
	memset(pool, 0, sizeof(*pool));
	pthread_mutex_init(&pool->mutex, NULL);
	pthread_cond_init(&pool->filled, NULL);
	pthread_cond_init(&pool->done, NULL);
	pool->nbatches = 2 * wanted + 1;
	pool->batches = calloc(pool->nbatches, sizeof(Batch));
	if (pool->batches == NULL)
		die("out of memory");
	while (pool->nworkers < wanted &&
		   pthread_create(&pool->workers[pool->nworkers], NULL, work, pool) == 0)
		pool->nworkers++;
	if (pool->nworkers == 0)
		die("could not start a thread");
}

static void
pool_stop(Pool *pool)
{
	pthread_mutex_lock(&pool->mutex);
	pool->stop = true;
	pthread_cond_broadcast(&pool->filled);
	pthread_mutex_unlock(&pool->mutex);
	for (int i = 0; i < pool->nworkers; i++)
		pthread_join(pool->workers[i], NULL);
	for (int i = 0; i < pool->nbatches; i++)
	{
		free(pool->batches[i].data);
		free(pool->batches[i].records);
	}
	free(pool->batches);
	pthread_cond_destroy(&pool->done);
	pthread_cond_destroy(&pool->filled);
	pthread_mutex_destroy(&pool->mutex);
}

/* Keeps the workers busy; returns the batch whose turn it is, NULL at the end. */
static Batch *
pool_next(Pool *pool, Source *source)
{
	Batch *b = &pool->batches[pool->nfolded % pool->nbatches];

	while (!source->ended && pool->nfilled - pool->nfolded < (uint64_t) pool->nbatches)
	{
		fill_batch(source, &pool->batches[pool->nfilled % pool->nbatches]);
		pthread_mutex_lock(&pool->mutex);
		pool->nfilled++;
		pthread_cond_signal(&pool->filled);
		pthread_mutex_unlock(&pool->mutex);
	}
	if (pool->nfolded == pool->nfilled)
		return NULL;
	pthread_mutex_lock(&pool->mutex);
	while (!b->done)
		pthread_cond_wait(&pool->done, &pool->mutex);
	pthread_mutex_unlock(&pool->mutex);
	return b;
}

/* ----------------------------------------------------------------
 * Checkpoints and keys, which were kept outside
 * ----------------------------------------------------------------
 */

typedef struct Checkpoint
{
	Text origin;				/* of the database, without the organization */
	Text organization;
	int64_t size;
	uint8_t root[HASH_LEN];
	Text body;					/* what a signature is over */
	Text signatures;			/* its lines, or nothing */
} Checkpoint;

typedef struct PublicKey
{
	Text name;
	uint8_t id[KEY_ID_LEN];
	uint8_t bytes[PUBLIC_KEY_LEN];
} PublicKey;

static bool
text_is(Text a, Text b)
{
	return a.len == b.len && (a.len == 0 || memcmp(a.start, b.start, a.len) == 0);
}

/* Cuts the next piece, up to a character, off a text. */
static Text
cut_at(Text *text, char c)
{
	char *found = text->len > 0 ? memchr(text->start, c, text->len) : NULL;
	Text piece = {text->start, found != NULL ? (size_t) (found - text->start) : text->len};
	size_t gone = found != NULL ? piece.len + 1 : piece.len;

	if (gone > 0)
	{
		text->start += gone;
		text->len -= gone;
	}
	return piece;
}

static bool
text_number(Text text, int64_t *number)
{
	Parser p = {text.start, text.start + text.len, NULL};

	return text.len > 0 && text.start[0] != ' ' && text.start[0] != '\t' &&
		parse_number(&p, number) && p.at == p.end;
}

/* The three lines of a checkpoint; an origin without organization is that of the database's log. */
static bool
checkpoint_parse(Checkpoint *c, Text origin, Text size, Text root)
{
	Text rest = origin;
	int slashes = 0;

	for (size_t i = 0; i < origin.len; i++)
	{
		if (origin.start[i] <= ' ' || origin.start[i] > '~')
			return false;
		slashes += origin.start[i] == '/';
	}
	c->origin = origin;
	c->organization.start = NULL;
	c->organization.len = 0;
	if (slashes == 3)
	{
		(void) cut_at(&rest, '/');
		(void) cut_at(&rest, '/');
		(void) cut_at(&rest, '/');
		c->organization = rest;
		c->origin.len = origin.len - rest.len - 1;
	}
	return slashes >= 2 && slashes <= 3 && origin.len > 8 && memcmp(origin.start, "opsflow/", 8) == 0 &&
		text_number(size, &c->size) && base64_fixed(root, c->root, HASH_LEN);
}

/* Reads a small file, without the carriage returns before newlines. */
static bool
read_small_file(const char *name, Text *text)
{
	FILE *file = fopen(name, "rb");
	size_t n = 0;

	text->start = more_memory(NULL, MAX_CHECKPOINT + 1);
	text->len = 0;
	if (file != NULL)
	{
		errno = 0;
		n = fread(text->start, 1, MAX_CHECKPOINT + 1, file);
	}
	if (file == NULL || ferror(file))
		fprintf(stderr, "opsflow-verify: %s: %s\n", name, strerror(errno));
	else if (n > MAX_CHECKPOINT)
		fprintf(stderr, "opsflow-verify: %s: larger than any checkpoint or key\n", name);
	else if (n == 0)
		fprintf(stderr, "opsflow-verify: %s: empty\n", name);
	for (size_t i = 0; i < n && n <= MAX_CHECKPOINT; i++)
	{
		if (text->start[i] != '\r' || i + 1 == n || text->start[i + 1] != '\n')
			text->start[text->len++] = text->start[i];
	}
	if (file != NULL)
		(void) fclose(file);
	if (text->len == 0)
		free(text->start);
	return text->len > 0;
}

static bool
checkpoint_read(const char *name, Checkpoint *c)
{
	Text text;
	Text rest;
	Text origin;
	Text size;
	Text root;

	if (!read_small_file(name, &text))
		return false;
	/* A shell takes the last newline away; the signature was made with it. */
	if (text.start[text.len - 1] != '\n')
		text.start[text.len++] = '\n';
	rest = text;
	origin = cut_at(&rest, '\n');
	size = cut_at(&rest, '\n');
	root = cut_at(&rest, '\n');
	c->body.start = text.start;
	c->body.len = text.len - rest.len;
	c->signatures = rest;
	if (checkpoint_parse(c, origin, size, root) && (rest.len == 0 || rest.start[0] == '\n'))
		return true;
	free(text.start);
	fprintf(stderr, "opsflow-verify: %s: not a checkpoint; opsflow.audit_checkpoint() gives one\n", name);
	return false;
}

/* <name>+<hash of name and key, 8 hexadecimal digits>+<base64 of 01 and the key> */
static bool
key_read(const char *name, Sha *sha, PublicKey *key)
{
	Text text;
	Text rest;
	Text line;
	Text id;
	uint8_t bytes[1 + PUBLIC_KEY_LEN];
	uint8_t hash[HASH_LEN];

	if (!read_small_file(name, &text))
		return false;
	rest = text;
	line = cut_at(&rest, '\n');
	key->name = cut_at(&line, '+');
	id = cut_at(&line, '+');
	if (key->name.len > 0 && id.len == KEY_ID_LEN * (size_t) 2 && hex_decode(id.start, key->id, KEY_ID_LEN) &&
		base64_fixed(line, bytes, sizeof(bytes)) && bytes[0] == 1)
	{
		key->name.start[key->name.len] = '\n'; /* where the + was */
		sha256(sha, key->name.start, key->name.len + 1, bytes, sizeof(bytes), hash);
		memcpy(key->bytes, bytes + 1, PUBLIC_KEY_LEN);
		if (memcmp(hash, key->id, KEY_ID_LEN) == 0)
			return true;
	}
	fprintf(stderr, "opsflow-verify: %s: not a key; opsflow.audit_checkpoint_key() gives one\n", name);
	free(text.start);
	return false;
}

static bool
signature_is_right(const PublicKey *key, Text body, const uint8_t *signature)
{
	EVP_PKEY *pkey = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, key->bytes, PUBLIC_KEY_LEN);
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	bool right;

	right = pkey != NULL && ctx != NULL &&
		EVP_DigestVerifyInit(ctx, NULL, NULL, NULL, pkey) == 1 &&
		EVP_DigestVerify(ctx, signature, SIGNATURE_LEN, (const uint8_t *) body.start, body.len) == 1;
	EVP_MD_CTX_free(ctx);
	EVP_PKEY_free(pkey);
	return right;
}

typedef enum Signed
{
	SIGNED_NOT,					/* not by this key */
	SIGNED_WRONG,
	SIGNED_RIGHT
} Signed;

/*
 * Lines of others, who signed it too, are theirs.  A line is an em dash (which
 * the export leaves out), the name, and base64 of the id and the signature.
 */
static Signed
signed_by(const PublicKey *key, Text body, Text signatures)
{
	static const char dash[] = "\xe2\x80\x94 ";
	Signed result = SIGNED_NOT;

	while (signatures.len > 0)
	{
		Text line = cut_at(&signatures, '\n');
		uint8_t bytes[KEY_ID_LEN + SIGNATURE_LEN];

		if (line.len > strlen(dash) && memcmp(line.start, dash, strlen(dash)) == 0)
		{
			line.start += strlen(dash);
			line.len -= strlen(dash);
		}
		if (!text_is(cut_at(&line, ' '), key->name))
			continue;
		if (!base64_fixed(line, bytes, sizeof(bytes)))
			return SIGNED_WRONG;
		if (memcmp(bytes, key->id, KEY_ID_LEN) != 0)
			continue;
		if (!signature_is_right(key, body, bytes + KEY_ID_LEN))
			return SIGNED_WRONG;
		result = SIGNED_RIGHT;
	}
	return result;
}

/* ----------------------------------------------------------------
 * The state of a verification
 * ----------------------------------------------------------------
 */

/* The roots of the perfect subtrees of the leaves so far: one for each bit of size. */
typedef struct Tree
{
	int64_t size;
	uint8_t peaks[TREE_LEVELS][HASH_LEN];
} Tree;

/* What retention took away. */
typedef struct Prune
{
	int64_t lane;
	int64_t first_seq;
	int64_t last_seq;
	uint8_t last_hash[HASH_LEN];
	/* the entry that records it */
	int64_t entry_lane;
	int64_t entry_seq;
	bool confirmed;
	bool walked;				/* on the way to one that is */
} Prune;

/* An entry without payload, the record of its redaction, or both. */
typedef struct Redaction
{
	uint8_t id[UUID_LEN];
	bool used;
	bool recorded;
	int64_t lane;				/* of the entry */
	int64_t seq;				/* 0: it is not here, or has its payload */
} Redaction;

/* The last entry of a lane so far. */
typedef struct Lane
{
	int64_t number;
	int64_t seq;				/* 0: a free slot */
	int64_t timestamp;
	uint8_t hash[HASH_LEN];
} Lane;

typedef struct Verifier
{
	/* how */
	bool print;
	bool quiet;
	const Checkpoint *checkpoint;
	const PublicKey *key;
	Sha *sha;
	Source source;
	/* what the first line says */
	char organization[UUID_TEXT_LEN + 1];
	uint8_t organization_id[UUID_LEN];
	char *origins;
	size_t origins_len;
	int64_t tree_size;
	bool since;
	bool until;
	/* so far */
	int64_t line;
	Kind last_kind;
	bool ended;
	bool unusable;
	int64_t problems;
	int64_t entries;
	int64_t open;				/* of them, those not sealed yet */
	int64_t redacted;
	int64_t absent;				/* leaves in subtrees */
	int64_t pruned;
	Tree tree;
	int64_t next_leaf;			/* tree.size, unless leaves are missing */
	bool root_known;			/* at the size of the checkpoint */
	uint8_t root_then[HASH_LEN];
	Prune *prunes;
	size_t nprunes;
	size_t prune_room;
	Lane *lanes;				/* open addressing, a power of two */
	size_t nlanes;
	size_t lane_slots;
	Redaction *redactions;		/* likewise */
	size_t nredactions;
	size_t redaction_slots;
	bool progress;
	struct timespec shown;
} Verifier;

static void clear_progress(const Verifier *v);

/* Something says something else than was recorded. */
static void __attribute__((format(printf, 2, 3)))
tampered(Verifier *v, const char *format, ...)
{
	va_list args;

	if (v->problems++ >= MAX_COMPLAINTS)
		return;
	clear_progress(v);
	fprintf(stderr, "tampered: ");
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
}

static void __attribute__((format(printf, 3, 4)))
tampered_entry(Verifier *v, const Record *r, const char *format, ...)
{
	char where[160];
	char what[320];
	int len;
	va_list args;

	len = snprintf(where, sizeof(where), "line %" PRId64, v->line);
	if (r->kind == KIND_LEAF)
		len += snprintf(where + len, sizeof(where) - len, ", leaf %" PRId64, r->leaf);
	if (r->readable)
		(void) snprintf(where + len, sizeof(where) - len, ", lane %" PRId64 ", seq %" PRId64, r->lane, r->seq);
	va_start(args, format);
	(void) vsnprintf(what, sizeof(what), format, args);
	va_end(args);
	tampered(v, "%s: %s", where, what);
}

/* It cannot be verified at all. */
static void __attribute__((format(printf, 2, 3)))
unusable(Verifier *v, const char *format, ...)
{
	va_list args;

	clear_progress(v);
	fprintf(stderr, "opsflow-verify: %s: ", v->source.name);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	v->unusable = true;
}

/* ----------------------------------------------------------------
 * Progress, on a terminal
 * ----------------------------------------------------------------
 */

static void
clear_progress(const Verifier *v)
{
	if (v->progress && v->shown.tv_sec != 0)
		fprintf(stderr, "\r\033[K");
}

static void
show_progress(Verifier *v)
{
	struct timespec now;

	if (!v->progress)
		return;
	clock_gettime(CLOCK_MONOTONIC, &now);
	if ((now.tv_sec - v->shown.tv_sec) * 1000 + (now.tv_nsec - v->shown.tv_nsec) / 1000000 < 250)
		return;
	v->shown = now;
	fprintf(stderr, "\r%" PRId64 " entries", v->entries);
	if (v->source.total > 0)
		fprintf(stderr, ", %d %%", (int) (100.0 * v->source.read / v->source.total));
	fprintf(stderr, "\033[K");
}

/* ----------------------------------------------------------------
 * The tree
 * ----------------------------------------------------------------
 */

static void
tree_add(Tree *tree, Sha *sha, int height, const uint8_t *hash)
{
	uint8_t node[HASH_LEN];
	int level;

	memcpy(node, hash, HASH_LEN);
	for (level = height; (tree->size >> level & 1) != 0; level++)
		sha256_node(sha, tree->peaks[level], node, node);
	memcpy(tree->peaks[level], node, HASH_LEN);
	tree->size += (int64_t) 1 << height;
}

static void
tree_root(const Tree *tree, Sha *sha, uint8_t *root)
{
	bool first = true;

	if (tree->size == 0)
		sha256(sha, "", 0, "", 0, root);
	for (int level = 0; level < TREE_LEVELS; level++)
	{
		if ((tree->size >> level & 1) == 0)
			continue;
		if (first)
			memcpy(root, tree->peaks[level], HASH_LEN);
		else
			sha256_node(sha, tree->peaks[level], root, root);
		first = false;
	}
}

static void
note_root(Verifier *v)
{
	if (v->checkpoint == NULL || v->tree.size != v->checkpoint->size)
		return;
	tree_root(&v->tree, v->sha, v->root_then);
	v->root_known = true;
}

/*
 * The next leaf, or the root of a subtree of leaves that are not here.  When one
 * is missing the tree stays where it is, and there is no root any more; what
 * follows is compared with its own number.
 */
static void
fold_leaf(Verifier *v, const Record *r)
{
	int64_t leaves;

	if (r->height >= TREE_LEVELS || (r->leaf & (((int64_t) 1 << r->height) - 1)) != 0)
	{
		tampered_entry(v, r, "no tree has such a node");
		return;
	}
	leaves = (int64_t) 1 << r->height;
	if (r->leaf != v->next_leaf)
		tampered_entry(v, r, "leaf %" PRId64 " should be here, and it is %" PRId64, v->next_leaf, r->leaf);
	if (r->leaf < v->next_leaf)
		return;
	if (r->leaf > v->tree_size || leaves > v->tree_size - r->leaf)
	{
		tampered_entry(v, r, "the tree has only %" PRId64 " leaves", v->tree_size);
		return;
	}
	v->next_leaf = r->leaf + leaves;
	if (r->kind == KIND_NODE)
		v->absent += leaves;
	if (r->leaf != v->tree.size)
		return;
	tree_add(&v->tree, v->sha, (int) r->height, r->hash);
	note_root(v);
}

/* ----------------------------------------------------------------
 * Lanes
 * ----------------------------------------------------------------
 */

static Lane *
lane_slot(Lane *lanes, size_t slots, int64_t number)
{
	size_t i = (size_t) ((uint64_t) number * UINT64_C(0x9E3779B97F4A7C15) >> 32) & (slots - 1);

	while (lanes[i].seq != 0 && lanes[i].number != number)
		i = (i + 1) & (slots - 1);
	return &lanes[i];
}

/* The slot of a lane; its seq is 0 before its first entry. */
static Lane *
find_lane(Verifier *v, int64_t number)
{
	Lane *lane;

	if (2 * v->nlanes >= v->lane_slots)
	{
		size_t slots = v->lane_slots == 0 ? 64 : 2 * v->lane_slots;
		Lane *lanes = calloc(slots, sizeof(Lane));

		if (lanes == NULL)
			die("out of memory");
		for (size_t i = 0; i < v->lane_slots; i++)
		{
			if (v->lanes[i].seq != 0)
				*lane_slot(lanes, slots, v->lanes[i].number) = v->lanes[i];
		}
		free(v->lanes);
		v->lanes = lanes;
		v->lane_slots = slots;
	}
	lane = lane_slot(v->lanes, v->lane_slots, number);
	lane->number = number;
	return lane;
}

/* The first prune record of a lane that ends at seq or after it. */
static const Prune *
find_prune(const Verifier *v, int64_t lane, int64_t seq)
{
	size_t low = 0;
	size_t high = v->nprunes;

	while (low < high)
	{
		size_t middle = low + (high - low) / 2;
		const Prune *p = &v->prunes[middle];

		if (p->lane < lane || (p->lane == lane && p->last_seq < seq))
			low = middle + 1;
		else
			high = middle;
	}
	return low < v->nprunes && v->prunes[low].lane == lane ? &v->prunes[low] : NULL;
}

/* Whether retention took exactly these entries; the last one's record if so. */
static const Prune *
find_pruned(const Verifier *v, int64_t lane, int64_t from, int64_t to)
{
	const Prune *p = find_prune(v, lane, from);

	while (p != NULL && p->first_seq == from && p->last_seq < to)
	{
		from = p->last_seq + 1;
		p = find_prune(v, lane, from);
	}
	return p != NULL && p->first_seq == from && p->last_seq == to ? p : NULL;
}

/*
 * The hash that an entry has to link to: false if what is before it is missing
 * (which is said), NULL if the export begins here.
 */
static bool
expected_link(Verifier *v, const Record *r, const Lane *lane, uint8_t *genesis, const uint8_t **link)
{
	const Prune *prune;
	uint8_t place[UUID_LEN + 8];

	if (lane->seq != 0 && r->seq == lane->seq + 1)
		*link = lane->hash;
	else if (r->seq == 1)
	{
		memcpy(place, v->organization_id, UUID_LEN);
		for (int i = 0; i < 8; i++)
			place[UUID_LEN + i] = (uint8_t) ((uint64_t) r->lane >> (56 - 8 * i));
		sha256(v->sha, place, sizeof(place), "", 0, genesis);
		*link = genesis;
	}
	else if ((prune = find_pruned(v, r->lane, lane->seq + 1, r->seq - 1)) != NULL)
		*link = prune->last_hash;
	else if (lane->seq == 0 && v->since)
	{
		prune = find_prune(v, r->lane, r->seq - 1);
		*link = prune != NULL && prune->last_seq == r->seq - 1 ? prune->last_hash : NULL;
	}
	else
	{
		tampered_entry(v, r, "its lane lacks seq %" PRId64 " to %" PRId64, lane->seq + 1, r->seq - 1);
		return false;
	}
	return true;
}

static void
fold_link(Verifier *v, const Record *r)
{
	Lane *lane;
	uint8_t genesis[HASH_LEN];
	const uint8_t *link;

	if (memcmp(r->organization_id, v->organization_id, UUID_LEN) != 0)
	{
		tampered_entry(v, r, "it is an entry of another organization");
		return;
	}
	if (r->lane < 0 || r->lane > INT32_MAX || r->seq < 1)
	{
		tampered_entry(v, r, "no ledger has such a lane or seq");
		return;
	}
	lane = find_lane(v, r->lane);
	if (r->seq <= lane->seq)
	{
		tampered_entry(v, r, "it comes after seq %" PRId64 " of its lane", lane->seq);
		return;
	}
	if (expected_link(v, r, lane, genesis, &link) && link != NULL &&
		memcmp(link, r->prev_hash, HASH_LEN) != 0)
		tampered_entry(v, r, "it does not link to the entry before it");
	if (lane->seq != 0 && r->timestamp < lane->timestamp)
		tampered_entry(v, r, "it is older than the entry before it");
	v->nlanes += lane->seq == 0;
	lane->seq = r->seq;
	lane->timestamp = r->timestamp;
	memcpy(lane->hash, r->hash, HASH_LEN);
}

/* ----------------------------------------------------------------
 * What the ledger says of itself: redactions and prunes
 * ----------------------------------------------------------------
 */

static Redaction *
redaction_slot(Redaction *redactions, size_t slots, const uint8_t *id)
{
	uint64_t hash;
	size_t i;

	memcpy(&hash, id + UUID_LEN - sizeof(hash), sizeof(hash));	/* the random part of it */
	i = (size_t) (hash * UINT64_C(0x9E3779B97F4A7C15) >> 32) & (slots - 1);
	while (redactions[i].used && memcmp(redactions[i].id, id, UUID_LEN) != 0)
		i = (i + 1) & (slots - 1);
	return &redactions[i];
}

static Redaction *
find_redaction(Verifier *v, const uint8_t *id)
{
	Redaction *found;

	if (2 * v->nredactions >= v->redaction_slots)
	{
		size_t slots = v->redaction_slots == 0 ? 64 : 2 * v->redaction_slots;
		Redaction *redactions = calloc(slots, sizeof(Redaction));

		if (redactions == NULL)
			die("out of memory");
		for (size_t i = 0; i < v->redaction_slots; i++)
		{
			if (v->redactions[i].used)
				*redaction_slot(redactions, slots, v->redactions[i].id) = v->redactions[i];
		}
		free(v->redactions);
		v->redactions = redactions;
		v->redaction_slots = slots;
	}
	found = redaction_slot(v->redactions, v->redaction_slots, id);
	if (!found->used)
	{
		v->nredactions++;
		found->used = true;
		memcpy(found->id, id, UUID_LEN);
	}
	return found;
}

/* The records of prunes that this entry makes, if its metadata says the same. */
static void
confirm_prunes(Verifier *v, const Record *r)
{
	Text fields[PAYLOAD_COLUMNS];
	char lane[256];

	if (r->redacted || !split_fields(r->payload, payload_columns, PAYLOAD_COLUMNS, fields))
		return;
	for (size_t i = 0; i < v->nprunes; i++)
	{
		Prune *p = &v->prunes[i];
		int len;

		if (p->entry_lane != r->lane || p->entry_seq != r->seq)
			continue;
		len = snprintf(lane, sizeof(lane), "{\"lane\": %" PRId64 ", \"last_seq\": %" PRId64, p->lane, p->last_seq);
		len += snprintf(lane + len, sizeof(lane) - len, ", \"first_seq\": %" PRId64 ", \"last_hash\": \"", p->first_seq);
		for (int byte = 0; byte < HASH_LEN; byte++)
			len += snprintf(lane + len, sizeof(lane) - len, "%02x", p->last_hash[byte]);
		p->confirmed = fields[PAYLOAD_METADATA].start != NULL &&
			memmem(fields[PAYLOAD_METADATA].start, fields[PAYLOAD_METADATA].len, lane, len) != NULL;
	}
}

static void
fold_subject(Verifier *v, const Record *r)
{
	if (r->redacted)
	{
		Redaction *redaction = find_redaction(v, r->id);

		redaction->lane = r->lane;
		redaction->seq = r->seq;
	}
	if (r->subject == SUBJECT_REDACTION)
		find_redaction(v, r->entity_id)->recorded = true;
	else if (r->subject == SUBJECT_PRUNE)
		confirm_prunes(v, r);
}

/* A redaction is recorded after the entry: it is here unless the export ends before. */
static void
check_redactions(Verifier *v)
{
	for (size_t i = 0; i < v->redaction_slots && !v->until; i++)
	{
		const Redaction *redaction = &v->redactions[i];

		if (redaction->seq != 0 && !redaction->recorded)
			tampered(v, "lane %" PRId64 ", seq %" PRId64 ": the payload is gone, and no entry records its redaction",
					 redaction->lane, redaction->seq);
	}
}

/* The record of what took the entry that a record names, if that entry is gone and later. */
static Prune *
prune_of_record(const Verifier *v, const Prune *p)
{
	Prune *found = (Prune *) find_prune(v, p->entry_lane, p->entry_seq);

	if (found == NULL || found->first_seq > p->entry_seq ||
		(p->entry_lane == p->lane && p->entry_seq <= p->last_seq))
		return NULL;
	return found;
}

/*
 * Whose record is gone by right counts too.  The way ends where an entry that is here
 * has said it, or where it has been before: records cannot vouch for themselves or
 * each other.
 */
static void
confirm_along(const Verifier *v, Prune *start)
{
	Prune *end = start;

	while (end != NULL && !end->confirmed && !end->walked)
	{
		end->walked = true;
		end = prune_of_record(v, end);
	}
	if (end == NULL || !end->confirmed)
		return;
	for (Prune *p = start; p != end; p = prune_of_record(v, p))
		p->confirmed = true;
}

/* A prune is recorded by an entry that is here, or has been pruned itself. */
static void
check_prunes(Verifier *v)
{
	if (v->since || v->until)
		return;
	for (size_t i = 0; i < v->nprunes; i++)
		confirm_along(v, &v->prunes[i]);
	for (size_t i = 0; i < v->nprunes; i++)
	{
		const Prune *p = &v->prunes[i];

		if (!p->confirmed)
			tampered(v, "lane %" PRId64 ": no entry records that %" PRId64 " to %" PRId64 " were pruned",
					 p->lane, p->first_seq, p->last_seq);
	}
}

/* ----------------------------------------------------------------
 * Printing entries: from the bytes that were verified
 * ----------------------------------------------------------------
 */

/* Bytes of the UTF-8 character, 0 if it is none or one that no reader sees. */
static int
utf8_length(const uint8_t *s, size_t left)
{
	int len = 1;

	if (s[0] >= 0x80)
		len = 2 + (s[0] >= 0xE0) + (s[0] >= 0xF0);
	if ((s[0] >= 0x80 && s[0] < 0xC2) || s[0] >= 0xF5 || (size_t) len > left)
		return 0;
	for (int i = 1; i < len; i++)
	{
		if ((s[i] & 0xC0) != 0x80)
			return 0;
	}
	if ((s[0] == 0xC2 && s[1] < 0xA0) || (s[0] == 0xE0 && s[1] < 0xA0) || (s[0] == 0xED && s[1] > 0x9F) ||
		(s[0] == 0xF0 && s[1] < 0x90) || (s[0] == 0xF4 && s[1] > 0x8F))
		return 0;
	return len;
}

/* What a terminal would obey, and what is no character, is escaped. */
static void
print_string(Text text)
{
	const uint8_t *s = (const uint8_t *) text.start;

	putchar('"');
	for (size_t i = 0; i < text.len;)
	{
		int len = utf8_length(s + i, text.len - i);

		if (len == 0 || s[i] < ' ' || s[i] == 0x7F)
		{
			printf("\\u%04x", s[i]);
			i++;
			continue;
		}
		if (s[i] == '"' || s[i] == '\\')
			putchar('\\');
		(void) fwrite(s + i, 1, len, stdout);
		i += len;
	}
	putchar('"');
}

static bool json_value(const char **at, const char *end, int depth);

static void
json_blanks(const char **at, const char *end)
{
	while (*at < end && **at == ' ')
		(*at)++;
}

static bool
json_string(const char **at, const char *end)
{
	if (*at == end || *(*at)++ != '"')
		return false;
	while (*at < end && **at != '"')
	{
		int len = utf8_length((const uint8_t *) *at, end - *at);

		if (len == 0 || (len == 1 && **at < ' ') || **at == 0x7F)
			return false;
		if (**at == '\\' && (++*at == end || strchr("\"\\/bfnrtu", **at) == NULL || **at == '\0'))
			return false;
		*at += len;
	}
	return *at < end && *(*at)++ == '"';
}

static bool
json_members(const char **at, const char *end, char close, int depth)
{
	(*at)++;
	json_blanks(at, end);
	if (*at < end && **at == close)
	{
		(*at)++;
		return true;
	}
	for (;;)
	{
		json_blanks(at, end);
		if (close == '}')
		{
			if (!json_string(at, end))
				return false;
			json_blanks(at, end);
			if (*at == end || *(*at)++ != ':')
				return false;
		}
		if (!json_value(at, end, depth))
			return false;
		json_blanks(at, end);
		if (*at == end || (**at != ',' && **at != close))
			return false;
		if (*(*at)++ == close)
			return true;
	}
}

/* Is it one JSON value, as PostgreSQL writes it? Then it is printed as it is. */
static bool
json_value(const char **at, const char *end, int depth)
{
	static const char *const words[] = {"null", "true", "false"};

	json_blanks(at, end);
	if (*at == end || depth > 200)
		return false;
	if (**at == '"')
		return json_string(at, end);
	if (**at == '{' || **at == '[')
		return json_members(at, end, **at == '{' ? '}' : ']', depth + 1);
	for (int i = 0; i < 3; i++)
	{
		size_t len = strlen(words[i]);

		if ((size_t) (end - *at) >= len && memcmp(*at, words[i], len) == 0)
		{
			*at += len;
			return true;
		}
	}
	if (**at == '-')
		(*at)++;
	if (*at == end || **at < '0' || **at > '9')
		return false;
	while (*at < end && **at != '\0' && strchr("0123456789.eE+-", **at) != NULL)
		(*at)++;
	return true;
}

static void
print_json(Text text)
{
	const char *at = text.start;
	const char *end = text.start + text.len;

	if (json_value(&at, end, 0) && at == end)
		(void) fwrite(text.start, 1, text.len, stdout);
	else
		print_string(text);
}

static void
print_hex(const char *bytes, size_t len)
{
	putchar('"');
	for (size_t i = 0; i < len; i++)
		printf("%02x", (uint8_t) bytes[i]);
	putchar('"');
}

static void
print_uuid(const char *bytes)
{
	putchar('"');
	for (int i = 0; i < UUID_LEN; i++)
		printf("%s%02x", i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", (uint8_t) bytes[i]);
	putchar('"');
}

/* Microseconds since 1970, UTC. */
static void
print_time(int64_t time)
{
	int64_t micros = time % 1000000;
	time_t seconds = (time_t) (time / 1000000);
	struct tm tm;
	char text[64];

	if (micros < 0)
	{
		micros += 1000000;
		seconds--;
	}
	if (gmtime_r(&seconds, &tm) != NULL && strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm) > 0)
		printf("\"%s.%06dZ\"", text, (int) micros);
	else
		printf("%" PRId64, time);
}

static void
print_field(const Column *column, Text field)
{
	printf(", \"%s\": ", column->name);
	if (field.start == NULL)
	{
		printf("null");
		return;
	}
	switch (column->type)
	{
		case TYPE_UUID:
			print_uuid(field.start);
			break;
		case TYPE_NUMBER:
			printf("%" PRId64, (int64_t) big_endian(field.start, 8));
			break;
		case TYPE_TIME:
			print_time((int64_t) big_endian(field.start, 8));
			break;
		case TYPE_HASH:
			print_hex(field.start, field.len);
			break;
		case TYPE_NUMERIC:
		case TYPE_JSON:
			print_json(field);
			break;
		case TYPE_TEXT:
			print_string(field);
			break;
	}
}

static void
print_fields(Text bytes, const Column *columns, int n)
{
	Text fields[HEADER_COLUMNS];

	if (!split_fields(bytes, columns, n, fields))
		return;					/* that was said */
	for (int i = 0; i < n; i++)
		print_field(&columns[i], fields[i]);
}

static void
print_entry(const Record *r)
{
	printf("{\"leaf\": ");
	if (r->kind == KIND_LEAF)
		printf("%" PRId64, r->leaf);
	else
		printf("null");
	printf(", \"hash\": ");
	print_hex((const char *) r->hash, HASH_LEN);
	printf(", \"redacted\": %s, \"problem\": ", r->redacted ? "true" : "false");
	if (r->problem != NULL)
		printf("\"%s\"", r->problem);
	else
		printf("null");
	print_fields(r->header, header_columns, HEADER_COLUMNS);
	if (!r->redacted)
		print_fields(r->payload, payload_columns, PAYLOAD_COLUMNS);
	printf("}\n");
}

/* ----------------------------------------------------------------
 * The lines in their order
 * ----------------------------------------------------------------
 */

static void
reparse(const Record *r, Members *members)
{
	Parser p = {r->line.start, r->line.start + r->line.len, NULL};

	if (r->line.len > 0 && p.end[-1] == '\r')
		p.end--;
	(void) parse_line(&p, members);
}

static bool
is_own_origin(const Verifier *v, Text origin)
{
	Text origins = {v->origins, v->origins_len};
	Text each;

	while (next_string(&origins, &each))
	{
		if (text_is(each, origin))
			return true;
	}
	return false;
}

/* A checkpoint of something else says nothing about this export. */
static void
check_checkpoint_fits(Verifier *v)
{
	const Checkpoint *c = v->checkpoint;
	Text organization = {v->organization, UUID_TEXT_LEN};

	if (c->organization.len == 0)
		unusable(v, "the checkpoint is of the database's log, not of an organization");
	else if (!text_is(c->organization, organization))
		unusable(v, "the checkpoint is of organization %.*s, the export of %s",
				 (int) c->organization.len, c->organization.start, v->organization);
	else if (!is_own_origin(v, c->origin))
		unusable(v, "the checkpoint is of another database: %.*s", (int) c->origin.len, c->origin.start);
}

static void
fold_first(Verifier *v, const Record *r)
{
	Members members;
	Text organization;
	Text hash;

	reparse(r, &members);
	organization = members.text[KEY_ORGANIZATION];
	hash = members.text[KEY_HASH];
	if (members.number[KEY_EXPORT] != 1 || hash.len != 6 || memcmp(hash.start, "sha256", 6) != 0)
	{
		unusable(v, "an export of format %" PRId64 " with hash %.*s: this program knows format 1 with sha256",
				 members.number[KEY_EXPORT], (int) (hash.len < 64 ? hash.len : 64), hash.start);
		return;
	}
	if (!uuid_decode(organization.start, organization.len, v->organization_id))
	{
		unusable(v, "line 1: organization_id is no UUID");
		return;
	}
	memcpy(v->organization, organization.start, UUID_TEXT_LEN);
	v->origins_len = members.text[KEY_ORIGINS].len;
	v->origins = more_memory(NULL, v->origins_len + 1);
	memcpy(v->origins, members.text[KEY_ORIGINS].start, v->origins_len);
	v->tree_size = members.number[KEY_TREE_SIZE];
	v->since = (members.null & BIT(KEY_SINCE)) == 0;
	v->until = (members.null & BIT(KEY_UNTIL)) == 0;
	if (v->checkpoint != NULL)
		check_checkpoint_fits(v);
	note_root(v);
}

static void
fold_pruned(Verifier *v, const Record *r)
{
	Members members;
	Prune p;
	const Prune *last = v->nprunes > 0 ? &v->prunes[v->nprunes - 1] : NULL;

	reparse(r, &members);
	p.lane = members.number[KEY_LANE];
	p.first_seq = members.number[KEY_FIRST_SEQ];
	p.last_seq = members.number[KEY_LAST_SEQ];
	p.entry_lane = members.number[KEY_ENTRY_LANE];
	p.entry_seq = members.number[KEY_ENTRY_SEQ];
	p.confirmed = p.walked = false;
	if (!base64_fixed(members.text[KEY_LAST_HASH], p.last_hash, HASH_LEN))
	{
		unusable(v, "line %" PRId64 ": last_hash is 32 bytes in base64", v->line);
		return;
	}
	if (p.lane > INT32_MAX || p.first_seq < 1 || p.last_seq < p.first_seq ||
		(last != NULL && (p.lane < last->lane || (p.lane == last->lane && p.first_seq <= last->last_seq))) ||
		p.last_seq - p.first_seq >= INT64_MAX - v->pruned)
	{
		tampered(v, "line %" PRId64 ", lane %" PRId64 ": the record that %" PRId64 " to %" PRId64 " were pruned"
					" does not fit the one before",
				 v->line, p.lane, p.first_seq, p.last_seq);
		return;
	}
	v->pruned += p.last_seq - p.first_seq + 1;
	if (v->nprunes == v->prune_room)
	{
		v->prune_room = v->prune_room == 0 ? 64 : 2 * v->prune_room;
		v->prunes = more_memory(v->prunes, v->prune_room * sizeof(Prune));
	}
	v->prunes[v->nprunes++] = p;
}

static void
fold_entry(Verifier *v, const Record *r)
{
	v->entries++;
	v->redacted += r->redacted;
	if (r->problem != NULL)
		tampered_entry(v, r, "%s", r->problem);
	if (r->kind == KIND_LEAF)
		fold_leaf(v, r);
	else
	{
		v->open++;
		if (v->until)
			tampered_entry(v, r, "entries that are not sealed are in no export with an end");
	}
	if (r->readable)
	{
		fold_link(v, r);
		fold_subject(v, r);
	}
	if (v->print)
		print_entry(r);
}

/* The signature of the export's own checkpoint, and of the one kept outside. */
static void
check_signatures(Verifier *v, Text body, Text signature)
{
	Signed own = signed_by(v->key, body, signature);
	Signed outside = v->checkpoint == NULL ? SIGNED_NOT : signed_by(v->key, v->checkpoint->body, v->checkpoint->signatures);

	if (own == SIGNED_WRONG)
		tampered(v, "the signature of the export's own checkpoint is wrong");
	if (outside == SIGNED_WRONG)
		tampered(v, "the signature of the checkpoint that was kept outside is wrong");
	if (v->checkpoint != NULL && outside == SIGNED_NOT)
		tampered(v, "the checkpoint that was kept outside is not signed with the key");
	if (v->checkpoint == NULL && own == SIGNED_NOT)
		tampered(v, "the export's own checkpoint is not signed with the key");
}

/* origin, size and root of the export's own checkpoint against what was computed */
static void
check_own_checkpoint(Verifier *v, Text strings, Text signature)
{
	Checkpoint own;
	Text parts[3] = {{NULL, 0}, {NULL, 0}, {NULL, 0}};
	Text more;
	Text organization = {v->organization, UUID_TEXT_LEN};
	Text body;
	uint8_t root[HASH_LEN];
	int n = 0;

	while (n < 3 && next_string(&strings, &parts[n]))
		n++;
	if (n < 3 || next_string(&strings, &more) || !checkpoint_parse(&own, parts[0], parts[1], parts[2]))
	{
		unusable(v, "line %" PRId64 ": checkpoint is not an origin, a size and a root", v->line);
		return;
	}
	tree_root(&v->tree, v->sha, root);
	if (!text_is(own.organization, organization) || !is_own_origin(v, own.origin))
		tampered(v, "line %" PRId64 ": the export's own checkpoint is of another ledger", v->line);
	if (own.size != v->tree_size)
		tampered(v, "line %" PRId64 ": the export's own checkpoint has %" PRId64 " leaves, the tree %" PRId64,
				 v->line, own.size, v->tree_size);
	else if (v->tree.size == v->tree_size && memcmp(own.root, root, HASH_LEN) != 0)
		tampered(v, "the Merkle root of the %" PRId64 " leaves is not that of the export's own checkpoint", own.size);
	if (v->key != NULL)
	{
		body.len = parts[0].len + parts[1].len + parts[2].len + 3;
		body.start = more_memory(NULL, body.len + 1);
		(void) sprintf(body.start, "%.*s\n%.*s\n%.*s\n", (int) parts[0].len, parts[0].start,
					   (int) parts[1].len, parts[1].start, (int) parts[2].len, parts[2].start);
		check_signatures(v, body, signature);
		free(body.start);
	}
}

static void
check_outside_checkpoint(Verifier *v)
{
	const Checkpoint *c = v->checkpoint;

	if (c->size > v->tree_size)
		tampered(v, "entries are missing: the export has %" PRId64 " leaves, the checkpoint that was kept"
					" outside %" PRId64,
				 v->tree_size, c->size);
	else if (v->root_known)
	{
		if (memcmp(v->root_then, c->root, HASH_LEN) != 0)
			tampered(v, "history was rewritten: the first %" PRId64 " leaves do not have the root of the"
						" checkpoint that was kept outside",
					 c->size);
	}
	else if (v->problems == 0)
		unusable(v, "the root at %" PRId64 " leaves cannot be computed from this export: make it with the"
					" checkpoint as the argument of export_audit()",
				 c->size);
}

static void
fold_end(Verifier *v, const Record *r)
{
	Members members;
	Text nothing = {NULL, 0};

	reparse(r, &members);
	v->ended = true;
	if (v->next_leaf != v->tree_size)
		tampered(v, "line %" PRId64 ": %" PRId64 " leaves came before the end, the tree has %" PRId64,
				 v->line, v->next_leaf, v->tree_size);
	if (members.number[KEY_ENTRIES] != v->entries)
		tampered(v, "line %" PRId64 ": %" PRId64 " entries came before the end, it says %" PRId64,
				 v->line, v->entries, members.number[KEY_ENTRIES]);
	if (!v->since && !v->until && v->absent != v->pruned)
		tampered(v, "%" PRId64 " entries are not in the export, and %" PRId64 " are recorded as pruned",
				 v->absent, v->pruned);
	check_redactions(v);
	check_prunes(v);
	if ((members.null & BIT(KEY_CHECKPOINT)) == 0)
		check_own_checkpoint(v, members.text[KEY_CHECKPOINT],
							 members.null & BIT(KEY_SIGNATURE) ? nothing : members.text[KEY_SIGNATURE]);
	else if (v->tree_size > 0)
		tampered(v, "line %" PRId64 ": the export has leaves, and no checkpoint", v->line);
	else if (v->key != NULL)
		check_signatures(v, nothing, nothing);
	if (v->checkpoint != NULL)
		check_outside_checkpoint(v);
}

/* Pruned entries, then leaves and nodes, then entries that are not sealed. */
static bool
line_in_order(const Verifier *v, Kind kind)
{
	Kind before = v->last_kind == KIND_NODE ? KIND_LEAF : v->last_kind;

	return kind == KIND_END || (kind == KIND_NODE ? KIND_LEAF : kind) >= before;
}

static void
fold_line(Verifier *v, const Record *r, bool cut)
{
	if (v->ended)
		unusable(v, "line %" PRId64 ": something follows the end of the export", v->line);
	else if (r->kind == KIND_MALFORMED && cut)
		unusable(v, "the export is truncated in line %" PRId64, v->line);
	else if (r->kind == KIND_MALFORMED)
		unusable(v, "line %" PRId64 ", column %zu: not a line of an export: %s", v->line, r->column, r->problem);
	else if ((r->kind == KIND_FIRST) != (v->line == 1))
		unusable(v, "line %" PRId64 ": %s", v->line,
				 v->line == 1 ? "an export begins with another line" : "an export begins here for the second time");
	if (v->unusable)
		return;
	if (!line_in_order(v, r->kind))
		tampered_entry(v, r, "it is not in its place");
	v->last_kind = r->kind;
	switch (r->kind)
	{
		case KIND_FIRST:
			fold_first(v, r);
			break;
		case KIND_PRUNED:
			fold_pruned(v, r);
			break;
		case KIND_NODE:
			fold_leaf(v, r);
			break;
		case KIND_LEAF:
		case KIND_OPEN:
			fold_entry(v, r);
			break;
		case KIND_END:
			fold_end(v, r);
			break;
		case KIND_MALFORMED:
			break;
	}
}

static void
fold_batch(Verifier *v, const Batch *b)
{
	for (size_t i = 0; i < b->nrecords && !v->unusable; i++)
	{
		v->line++;
		fold_line(v, &b->records[i], b->cut && i + 1 == b->nrecords);
	}
	show_progress(v);
}

/* ----------------------------------------------------------------
 * The verdict
 * ----------------------------------------------------------------
 */

static void
check_input_ended(Verifier *v)
{
	if (v->unusable)
		return;
	if (v->source.failure != NULL)
		unusable(v, "after line %" PRId64 ": %s", v->line, v->source.failure);
	else if (v->line == 0)
		unusable(v, "empty");
	else if (!v->ended)
		unusable(v, "the export is truncated: it stops after line %" PRId64 " without an end", v->line);
}

static void
print_verdict(Verifier *v, FILE *out)
{
	uint8_t root[HASH_LEN];

	tree_root(&v->tree, v->sha, root);
	fprintf(out, "ok: %" PRId64 " entries in %zu lanes of organization %s\n", v->entries, v->nlanes, v->organization);
	if (v->tree_size > 0)
		fprintf(out, "tree: %" PRId64 " leaves, root %s\n", v->tree_size, base64_hash(root));
	if (v->open > 0)
		fprintf(out, "not sealed yet: %" PRId64 " entries, which only their chains protect\n", v->open);
	if (v->pruned > 0)
		fprintf(out, "pruned by retention: %" PRId64 " entries\n", v->pruned);
	if (v->since || v->until)
		fprintf(out, "a part of the ledger: %" PRId64 " entries are not in this export\n", v->absent);
	if (v->redacted > 0)
		fprintf(out, "redacted: %" PRId64 " entries\n", v->redacted);
	if (v->checkpoint != NULL)
		fprintf(out, "checkpoint: its %" PRId64 " leaves are the first of this tree%s\n", v->checkpoint->size,
				v->key != NULL ? ", and its signature is right" : "");
	else
		fprintf(out, "no checkpoint was given (--checkpoint): a history rewritten as a whole would not show\n");
}

static void
flush_output(Verifier *v)
{
	if (fflush(stdout) == 0 && !ferror(stdout))
		return;
	fprintf(stderr, "opsflow-verify: could not write: %s\n", strerror(errno));
	v->unusable = true;
}

static int
conclude(Verifier *v)
{
	check_input_ended(v);
	clear_progress(v);
	flush_output(v);
	if (v->problems > MAX_COMPLAINTS)
		fprintf(stderr, "tampered: %" PRId64 " more of that\n", v->problems - MAX_COMPLAINTS);
	if (v->problems > 0)
		return EXIT_TAMPERED;
	if (!v->unusable && !v->quiet)
	{
		print_verdict(v, v->print ? stderr : stdout);
		flush_output(v);
	}
	return v->unusable ? EXIT_UNUSABLE : EXIT_OK;
}

static int
verify(Verifier *v)
{
	Pool pool;
	Batch *b;
	int status;

	pool_start(&pool);
	while (!v->unusable && (b = pool_next(&pool, &v->source)) != NULL)
	{
		fold_batch(v, b);
		pool.nfolded++;
	}
	pool_stop(&pool);
	status = conclude(v);
	free(v->source.rest);
	free(v->origins);
	free(v->prunes);
	free(v->lanes);
	free(v->redactions);
	return status;
}

/* ----------------------------------------------------------------
 * The command line
 * ----------------------------------------------------------------
 */

static const char help[] =
	"opsflow-verify verifies an export of an opsflow ledger without the database.\n"
	"\n"
	"Usage: opsflow-verify [OPTION]... [EXPORT]\n"
	"\n"
	"EXPORT is a file with the lines of opsflow.export_audit(), - or nothing for standard input.\n"
	"\n"
	"  --checkpoint FILE  the export continues this checkpoint, which was kept outside\n"
	"  --key FILE         the checkpoint is signed with this key (opsflow.audit_checkpoint_key())\n"
	"  --print            print every entry as it was verified, one JSON object a line\n"
	"  --quiet            say nothing but what is wrong\n"
	"  --help             print this, and end\n"
	"  --version          print the version, and end\n"
	"\n"
	"Exit status: 0 all is as it was recorded, 1 tampered, 2 wrong usage or an input that is no\n"
	"whole export.\n";

static int
usage_error(void)
{
	fprintf(stderr, "Try opsflow-verify --help.\n");
	return EXIT_UNUSABLE;
}

static bool
open_source(Source *s, const char *name)
{
	struct stat status;
	bool standard_input = name == NULL || strcmp(name, "-") == 0;

	s->name = standard_input ? "standard input" : name;
	s->fd = standard_input ? STDIN_FILENO : open(name, O_RDONLY | O_CLOEXEC);
	if (s->fd < 0)
	{
		fprintf(stderr, "opsflow-verify: %s: %s\n", name, strerror(errno));
		return false;
	}
	if (fstat(s->fd, &status) == 0 && S_ISREG(status.st_mode))
		s->total = status.st_size;
	return true;
}

int
main(int argc, char **argv)
{
	static const struct option options[] = {
		{"checkpoint", required_argument, NULL, 'c'},
		{"key", required_argument, NULL, 'k'},
		{"print", no_argument, NULL, 'p'},
		{"quiet", no_argument, NULL, 'q'},
		{"help", no_argument, NULL, 'h'},
		{"version", no_argument, NULL, 'v'},
		{NULL, 0, NULL, 0}};
	Verifier v = {0};
	Checkpoint checkpoint;
	PublicKey key;
	const char *checkpoint_file = NULL;
	const char *key_file = NULL;
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1)
	{
		switch (option)
		{
			case 'c':
				checkpoint_file = optarg;
				break;
			case 'k':
				key_file = optarg;
				break;
			case 'p':
				v.print = true;
				break;
			case 'q':
				v.quiet = true;
				break;
			case 'h':
				fputs(help, stdout);
				return fflush(stdout) == 0 ? EXIT_OK : EXIT_UNUSABLE;
			case 'v':
				puts("opsflow-verify " OPSFLOW_VERSION);
				return fflush(stdout) == 0 ? EXIT_OK : EXIT_UNUSABLE;
			default:
				return usage_error();
		}
	}
	if (argc - optind > 1)
	{
		fprintf(stderr, "opsflow-verify: one export at a time\n");
		return usage_error();
	}
	base64_init();
	v.sha = sha_create();
	if ((checkpoint_file != NULL && !checkpoint_read(checkpoint_file, &checkpoint)) ||
		(key_file != NULL && !key_read(key_file, v.sha, &key)) ||
		!open_source(&v.source, argv[optind]))
		return EXIT_UNUSABLE;
	v.checkpoint = checkpoint_file != NULL ? &checkpoint : NULL;
	v.key = key_file != NULL ? &key : NULL;
	v.progress = !v.quiet && isatty(STDERR_FILENO);
	return verify(&v);
}
