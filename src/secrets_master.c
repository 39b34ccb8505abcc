/*
 * secrets_master.c
 *		The master key, which lives outside the database.
 *
 * It is in a file or comes from a command, which opsflow.master_key_file or
 * opsflow.master_key_command names: whoever has a dump, a copy of the data directory or
 * SQL of a superuser's does not have it by that.  A line has the base64 of 64 bytes; the
 * first line is the key that data keys are wrapped with, the further ones are older keys
 * that some still are wrapped with.
 *
 * A session keeps the keys until the file is another one or was changed; what a command
 * printed until there is need of a key that was not in it.  No message has a byte of a
 * key.
 */
#include "postgres.h"

#include <openssl/crypto.h>
#include <sys/stat.h>

#include "common/base64.h"
#include "storage/fd.h"
#include "utils/guc.h"

#include "audit.h"
#include "core.h"
#include "secrets_keys.h"

/* Of 64 bytes. */
#define BASE64_KEY_LEN 88

#define MAX_MASTER_KEYS 64

static const OpsflowKeyFile key_file = {"opsflow.master_key_file", "openssl rand -base64 64 | tr -d '\\n'"};

static char *master_key_file;
static char *master_key_command;

typedef struct MasterKey
{
	char id[MASTER_KEY_ID_LEN + 1];
	uint8 key[SECRET_KEY_LEN];
} MasterKey;

/* What was read last, and from where. */
static MasterKey keys[MAX_MASTER_KEYS];
static int key_count = 0;
static char *source = NULL;
static struct stat source_state;

void
opsflow_master_key_init(void)
{
	DefineCustomStringVariable("opsflow.master_key_command",
							   "Command that prints the keys that opsflow.master_key_file would have; empty: none.",
							   "It runs as the user that runs the server.",
							   &master_key_command, "", PGC_SUSET, GUC_SUPERUSER_ONLY, NULL, NULL, NULL);
	DefineCustomStringVariable("opsflow.master_key_file",
							   "File with the master keys of secrets, base64 of 64 bytes on a line, the current one first.",
							   "A path that is not absolute begins at the data directory.",
							   &master_key_file, "", PGC_SUSET, GUC_SUPERUSER_ONLY, NULL, NULL, NULL);
}

static void
forget_keys(void)
{
	OPENSSL_cleanse(keys, sizeof(keys));
	key_count = 0;
	if (source != NULL)
		pfree(source);
	source = NULL;
}

/* ----------------------------------------------------------------
 * Lines of keys
 * ----------------------------------------------------------------
 */

static void
name_key(MasterKey *key)
{
	uint8 hash[AUDIT_HASH_LEN];

	opsflow_sha256(key->key, SECRET_KEY_LEN, NULL, 0, hash);
	snprintf(key->id, sizeof(key->id), "%02x%02x%02x%02x", hash[0], hash[1], hash[2], hash[3]);
}

/* Is the line a key, a comment or blank? */
static bool
parse_line(const char *line, int length)
{
	MasterKey *key = &keys[key_count];

	while (length > 0 && isspace((unsigned char) line[length - 1]))
		length--;
	while (length > 0 && isspace((unsigned char) *line))
		line++, length--;
	if (length == 0 || *line == '#')
		return true;
	if (length != BASE64_KEY_LEN || key_count == MAX_MASTER_KEYS ||
		pg_b64_decode(line, length, OPSFLOW_BASE64_BUFFER(key->key), SECRET_KEY_LEN) != SECRET_KEY_LEN)
		return false;
	name_key(key);
	key_count++;
	return true;
}

/* The number of the first line that is unfit, or 0.  Wipes the text. */
static int
parse_keys(char *text, int length)
{
	int number = 0;
	int unfit = 0;

	for (int at = 0; at < length && unfit == 0;)
	{
		char *newline = memchr(text + at, '\n', length - at);
		int end = newline == NULL ? length : newline - text;

		number++;
		if (!parse_line(text + at, end - at))
			unfit = number;
		at = end + 1;
	}
	OPENSSL_cleanse(text, length);
	return unfit;
}

static void
require_fit(int unfit_line, const char *what)
{
	if (unfit_line == 0 && key_count > 0)
		return;
	forget_keys();
	ereport(ERROR,
			(errcode(ERRCODE_OPSFLOW_PREREQUISITE),
			 unfit_line == 0 ? errmsg("%s has no key", what) : errmsg("line %d of %s is not a key", unfit_line, what),
			 errdetail("A key is the base64 of %d bytes, %d characters on one line, the current key first; there can be %d.",
					   SECRET_KEY_LEN, BASE64_KEY_LEN, MAX_MASTER_KEYS),
			 errhint("Put the file back from its backup; for a new database, make a key with \"%s\".", key_file.how_to_make)));
}

/* ----------------------------------------------------------------
 * Where they come from
 * ----------------------------------------------------------------
 */

static void
keep_source(const char *name)
{
	source = MemoryContextStrdup(TopMemoryContext, name);
}

static bool
same_file(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
		a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec &&
		a->st_ctim.tv_sec == b->st_ctim.tv_sec && a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}

static void
read_file(void)
{
	char text[OPSFLOW_KEY_FILE_MAX];
	struct stat st;
	int length;

	if (source != NULL && strcmp(source, master_key_file) == 0 && stat(master_key_file, &st) == 0 &&
		same_file(&st, &source_state))
		return;
	forget_keys();
	length = opsflow_read_key_file(&key_file, master_key_file, (uint8 *) text, &source_state);
	require_fit(parse_keys(text, length), "the file that opsflow.master_key_file names");
	keep_source(master_key_file);
}

static void
run_command(bool again)
{
	char text[OPSFLOW_KEY_FILE_MAX];
	FILE *pipe;
	int length;
	int status;
	int unfit;

	if (source != NULL && strcmp(source, master_key_command) == 0 && !again)
		return;
	forget_keys();
	pipe = OpenPipeStream(master_key_command, "r");
	if (pipe == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_PREREQUISITE),
				 errmsg("could not run the command of opsflow.master_key_command: %m")));
	length = fread(text, 1, sizeof(text), pipe);
	status = ClosePipeStream(pipe);
	unfit = parse_keys(text, length);
	if (status != 0)
	{
		forget_keys();
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_PREREQUISITE),
				 errmsg("the command of opsflow.master_key_command failed"),
				 errdetail_internal("%s", wait_result_to_str(status)),
				 errhint("Look for its error in the server's log.")));
	}
	require_fit(unfit, "what the command of opsflow.master_key_command prints");
	keep_source(master_key_command);
}

static bool
is_set(const char *setting)
{
	return setting != NULL && setting[0] != '\0';
}

bool
opsflow_is_master_key_configured(void)
{
	return is_set(master_key_file) || is_set(master_key_command);
}

static void
read_keys(bool again)
{
	bool has_file = is_set(master_key_file);
	bool has_command = is_set(master_key_command);

	if (has_file && has_command)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_PREREQUISITE),
				 errmsg("both opsflow.master_key_file and opsflow.master_key_command are set"),
				 errhint("Set one of them.")));
	if (!has_file && !has_command)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_PREREQUISITE),
				 errmsg("there is no master key to encrypt secrets with"),
				 errhint("Make one with \"%s\" in a file of the user that runs the server, and name the file in opsflow.master_key_file.",
						 key_file.how_to_make)));
	if (has_file)
		read_file();
	else
		run_command(again);
}

/* The key that data keys are wrapped with now, and its id. */
const uint8 *
opsflow_master_key(char *id)
{
	read_keys(false);
	strlcpy(id, keys[0].id, MASTER_KEY_ID_LEN + 1);
	return keys[0].key;
}

static const uint8 *
find_key(const char *id)
{
	for (int i = 0; i < key_count; i++)
	{
		if (strcmp(keys[i].id, id) == 0)
			return keys[i].key;
	}
	return NULL;
}

/* For who looks whether all is well: what a command printed before does not count. */
void
opsflow_reread_master_keys(void)
{
	read_keys(true);
}

/* Was the key of an id there when the keys were read? */
bool
opsflow_knows_master_key(const char *id)
{
	return find_key(id) != NULL;
}

/* Is the key of an id there? */
bool
opsflow_has_master_key(const char *id)
{
	read_keys(false);
	if (find_key(id) == NULL)
		read_keys(true);
	return find_key(id) != NULL;
}

/* The key of an id. */
const uint8 *
opsflow_master_key_named(const char *id)
{
	if (!opsflow_has_master_key(id))
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_PREREQUISITE),
				 errmsg("the master key \"%s\" is not there", id),
				 errdetail("Data keys are wrapped with it; the current master key is \"%s\".", keys[0].id),
				 errhint("Add its line to what opsflow.master_key_file or opsflow.master_key_command names, below the current key's.")));
	return find_key(id);
}
