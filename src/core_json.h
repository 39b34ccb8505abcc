/*
 * core_json.h
 *		Objects of jsonb by key, read and made.
 */
#ifndef OPSFLOW_CORE_JSON_H
#define OPSFLOW_CORE_JSON_H

#include "postgres.h"

#include "nodes/pg_list.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

/* A missing key, JSON null and a value of another type are the same: false, NULL, NIL, or what is given for it */
extern bool opsflow_json_value(const JsonbContainer *object, const char *key, JsonbValue *value);
extern bool opsflow_json_bool(const JsonbContainer *object, const char *key);
extern char *opsflow_json_text(const JsonbContainer *object, const char *key);
extern int opsflow_json_int(const JsonbContainer *object, const char *key, int missing);
extern Interval *opsflow_json_interval(const JsonbContainer *object, const char *key);
extern List *opsflow_json_texts(const JsonbContainer *object, const char *key);

/* Members of an object that is being made */
extern char *opsflow_json_string(const char *text);
extern void opsflow_json_key(JsonbParseState **state, const char *key);
extern void opsflow_json_put_text(JsonbParseState **state, const char *key, const char *text);
extern void opsflow_json_put_int(JsonbParseState **state, const char *key, int64 number);
extern void opsflow_json_put_bool(JsonbParseState **state, const char *key, bool boolean);
extern void opsflow_json_put_texts(JsonbParseState **state, const char *key, List *texts);

#endif /* OPSFLOW_CORE_JSON_H */
