/*
 * audit_sign.h
 *		Signatures of checkpoints.
 */
#ifndef OPSFLOW_AUDIT_SIGN_H
#define OPSFLOW_AUDIT_SIGN_H

#include "postgres.h"

/* What a signature line of ours has behind the name: 4 bytes that name the key, and the signature. */
#define NOTE_KEY_HASH_LEN 4
#define NOTE_SIGNATURE_LEN 64
#define NOTE_SIGNED_LEN (NOTE_KEY_HASH_LEN + NOTE_SIGNATURE_LEN)

typedef enum NoteVerdict
{
	NOTE_OTHER_KEY,				/* no key here, or not the one it was signed with */
	NOTE_GOOD,
	NOTE_BAD
} NoteVerdict;

extern void opsflow_sign_init(void);

/* NULL without a key. */
extern char *opsflow_note_signature(const char *body);
extern char *opsflow_note_verifier_key(void);
extern NoteVerdict opsflow_note_verify(const char *body, const char *key_name, const uint8 *signature, int length);

#endif							/* OPSFLOW_AUDIT_SIGN_H */
