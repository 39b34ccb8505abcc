/*
 * core_keyfile.c
 *		Files with keys: the server's alone, outside the database.
 *
 * No message says what is in the file.  Who reads one wipes what was read.
 */
#include "postgres.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "storage/fd.h"

#include "core.h"

static void
key_file_failed(const OpsflowKeyFile *file, const char *what)
{
	int error = errno;

	ereport(ERROR,
			(errcode(ERRCODE_OPSFLOW_PREREQUISITE),
			 errmsg("could not %s the file that %s names: %s", what, file->setting, strerror(error)),
			 errhint("Make a key with \"%s\" in a file of the user that runs the server.", file->how_to_make)));
}

/* The error of a file that is there, and not what it should be. */
void
opsflow_key_file_unfit(const OpsflowKeyFile *file, const char *what, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_OPSFLOW_PREREQUISITE),
			 errmsg("the file that %s names %s", file->setting, what),
			 errhint("%s", hint)));
}

/* As PostgreSQL asks of the keys for TLS: the server's alone, or root's and a group's to read. */
static void
check_permissions(const OpsflowKeyFile *file, const struct stat *st)
{
	if (!S_ISREG(st->st_mode))
		opsflow_key_file_unfit(file, "is not a regular file", "Name the file itself.");
	if (st->st_uid != geteuid() && st->st_uid != 0)
		opsflow_key_file_unfit(file, "belongs to another user",
							   "It must belong to the user that runs the server, or to root.");
	if ((st->st_uid == geteuid() && (st->st_mode & (S_IRWXG | S_IRWXO)) != 0) ||
		(st->st_uid == 0 && (st->st_mode & (S_IWGRP | S_IXGRP | S_IRWXO)) != 0))
		opsflow_key_file_unfit(file, "can be read by others",
							   "Set its permissions to u=rw (0600), or u=rw,g=r (0640) if it belongs to root.");
	if (st->st_size > OPSFLOW_KEY_FILE_MAX)
		opsflow_key_file_unfit(file, "is too large", "It must have the key only.");
}

/*
 * The file's contents, and in "st" (unless NULL) what it was when it was read.  Nothing
 * here fails once they are read.
 */
int
opsflow_read_key_file(const OpsflowKeyFile *file, const char *path, uint8 *contents, struct stat *st)
{
	int fd = OpenTransientFile(path, O_RDONLY | O_NONBLOCK);
	struct stat own;
	int length;

	if (st == NULL)
		st = &own;
	if (fd < 0)
		key_file_failed(file, "open");
	if (fstat(fd, st) != 0)
		key_file_failed(file, "examine");
	check_permissions(file, st);
	length = read(fd, contents, OPSFLOW_KEY_FILE_MAX);
	if (length < 0)
		key_file_failed(file, "read");
	CloseTransientFile(fd);
	return length;
}
