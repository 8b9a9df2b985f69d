/*
 * value.h - one value of one directive: from text into its field, back into text, compared, freed.
 *
 * `base` is the struct that the directive's scope names (config, config_listener, config_security). Strings
 * in fields belong to that struct.
 */
#ifndef BRAMBLE_CONFIG_VALUE_H
#define BRAMBLE_CONFIG_VALUE_H

#include "broker/err.h"
#include "config/table.h"
#include <stdio.h>

/* Words that stand for a number; the lists end with name NULL. */
struct word {
    const char *name;
    unsigned value;
};

struct duration {
    char unit; /* '\0' ends the list */
    int64_t seconds;
};

extern const struct word value_log_dests[], value_log_types[], value_protocols[], value_domains[],
    value_syncs[];
extern const struct duration value_durations[];

/* Writes text (trimmed, ended by a zero, changed on the way) into the field. `again`: not for the first time.
 * `name` is the name as it was written, for the reason. 0, or -1 with the reason in err (without file and
 * line). */
int value_set(const struct directive *directive, void *base, const char *name, char *text, bool again,
              struct err *err);

/* Only looks whether text would do. */
int value_check(const struct directive *directive, const char *name, char *text, struct err *err);

/* Sets the field to its default. 0, or -1 without memory. */
int value_default(const struct directive *directive, void *base);

bool value_equal(const struct directive *directive, const void *a, const void *b);

/* Writes "name value" lines that set the same; nothing when the field has no value that could be written. */
void value_print(const struct directive *directive, const void *base, FILE *out);

void value_free(const struct directive *directive, void *base);

/* Whether a second one is a mistake (TEXT and its kin), or must say the same, or adds to the first; of the
 * others the last one counts. Switches must say the same because most of them are locks: "no" and "yes" in
 * one configuration is no "yes". */
bool value_is_text(const struct directive *directive);
bool value_must_agree(const struct directive *directive);
bool value_adds_up(const struct directive *directive);

/* Whether text says what the field says already. 0, or -1 with err. */
int value_agrees(const struct directive *directive, const void *base, const char *name, char *text,
                 bool *same, struct err *err);

/* The pieces the special directives use too. Cuts the first word off *rest; NULL when there is none. */
char *value_word(char **rest);
/* Nothing, or a comment, may follow the last word. */
int value_end(const char *name, char *rest, struct err *err);
int value_number(const char *name, const char *word, int64_t low, int64_t high, int64_t *number,
                 struct err *err);
int value_bool(const char *name, const char *word, bool *value, struct err *err);
int value_empty(const char *name, struct err *err);

#endif
