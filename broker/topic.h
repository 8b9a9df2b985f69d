/*
 * topic.h - topic names and topic filters: what is well-formed, and what matches.
 *
 * Topics are compared byte for byte [MQTT-4.7.3-4]. Levels are separated by '/'; an empty level is a level.
 */
#ifndef BRAMBLE_TOPIC_H
#define BRAMBLE_TOPIC_H

#include "broker/slice.h"

/* Well-formed UTF-8 without U+0000 and surrogates [MQTT-1.5.3-1], [MQTT-1.5.3-2]. The empty string is
 * well-formed. */
bool utf8_valid(struct slice s);

/* A topic name: at least one character, no wildcard [MQTT-3.3.2-2], [MQTT-4.7.3-1]. The caller has checked
 * the UTF-8. */
bool topic_name_valid(struct slice name);

/* A topic filter: '#' alone or after '/', and last [MQTT-4.7.1-2]; '+' a whole level [MQTT-4.7.1-3]. */
bool topic_filter_valid(struct slice filter);

/* The number of levels: one more than there are '/'. */
uint32_t topic_levels(struct slice topic);

/* Whether a valid filter matches a valid name; filters that start with a wildcard do not match names that
 * start with '$' [MQTT-4.7.2-1]. */
bool topic_matches(struct slice filter, struct slice name);

/* Takes the next level off the front of rest into level. False when there is none left. Start with
 * topic_walk(). */
struct topic_walk {
    const uint8_t *p, *end;
    bool more;
};
static inline struct topic_walk topic_walk(struct slice topic)
{
    return (struct topic_walk){topic.p, topic.p + topic.n, true};
}
bool topic_next_level(struct topic_walk *walk, struct slice *level);

#endif
