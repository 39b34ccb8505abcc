/*
 * identity_base32.c
 *		Base32 (RFC 4648), in which people and authenticators write secrets.
 *
 * Without padding.  Reading takes either case, and padding at the end.
 */
#include "postgres.h"

#include "identity_person.h"

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/* Bytes as base32, in the current memory context. */
char *
opsflow_base32_encode(const uint8 *bytes, int len)
{
	char *result = palloc((len * 8 + 4) / 5 + 1);
	char *end = result;
	uint32 buffer = 0;
	int bits = 0;

	for (int i = 0; i < len; i++)
	{
		buffer = (buffer << 8) | bytes[i];
		for (bits += 8; bits >= 5; bits -= 5)
			*end++ = alphabet[(buffer >> (bits - 5)) & 31];
	}
	if (bits > 0)
		*end++ = alphabet[(buffer << (5 - bits)) & 31];
	*end = '\0';
	return result;
}

/* Base32 as bytes: how many there are, or -1 for what is no base32 or too long. */
int
opsflow_base32_decode(const char *text, uint8 *bytes, int size)
{
	size_t length = strlen(text);
	uint32 buffer = 0;
	int bits = 0;
	int count = 0;

	while (length > 0 && text[length - 1] == '=')
		length--;
	for (size_t i = 0; i < length; i++)
	{
		const char *at = strchr(alphabet, pg_toupper((unsigned char) text[i]));

		if (at == NULL)
			return -1;
		buffer = (buffer << 5) | (uint32) (at - alphabet);
		bits += 5;
		if (bits < 8)
			continue;
		if (count == size)
			return -1;
		bits -= 8;
		bytes[count++] = (buffer >> bits) & 0xFF;
	}
	return count;
}
