/*
 * retain.c - retained messages on a tree of topic levels. See retain.h.
 */
#include "broker/retain.h"
#include "broker/topic.h"
#include "broker/tree.h"
#include <stdlib.h>

struct retain_node {
    struct tree_node node;
    struct msg *msg;
    struct msg *changed; /* the last one, also an empty one, that the store does not know yet; or NULL */
    struct retain_node *next_changed;
};

struct retain {
    struct tree tree;
    struct retain_node *changed;
    size_t count;
    uint64_t bytes;
};

struct retain *retain_new(void)
{
    struct retain *retain = calloc(1, sizeof *retain);
    if (retain && tree_init(&retain->tree, sizeof(struct retain_node), true) < 0) {
        free(retain);
        retain = NULL;
    }
    return retain;
}

static void node_drop(struct tree_node *node)
{
    msg_unref(((struct retain_node *)node)->msg);
    msg_unref(((struct retain_node *)node)->changed);
}

void retain_free(struct retain *retain)
{
    if (retain) {
        tree_destroy(&retain->tree, node_drop);
        free(retain);
    }
}

bool retain_has(const struct retain *retain, struct slice topic)
{
    const struct tree_node *node = tree_find(&retain->tree, topic);
    return node && ((const struct retain_node *)node)->msg;
}

size_t retain_count(const struct retain *retain)
{
    return retain->count;
}

uint64_t retain_bytes(const struct retain *retain)
{
    return retain->bytes;
}

static uint64_t size_of(const struct msg *msg)
{
    return msg ? (uint64_t)msg->topic_size + msg->payload_size : 0;
}

/* msg NULL removes. */
static void set(struct retain *retain, struct retain_node *node, struct msg *msg)
{
    struct msg *old = node->msg;
    retain->bytes += size_of(msg) - size_of(old);
    retain->count += (msg != NULL) - (size_t)(old != NULL);
    node->node.uses += (msg != NULL) - (uint32_t)(old != NULL);
    node->msg = msg ? msg_ref(msg) : NULL;
    msg_unref(old);
    tree_prune(&retain->tree, &node->node);
}

int retain_update(struct retain *retain, struct msg *msg)
{
    if (msg->payload_size == 0) {
        struct tree_node *node = tree_find(&retain->tree, msg_topic(msg));
        if (node) {
            set(retain, (struct retain_node *)node, NULL);
        }
        return 0;
    }
    struct tree_node *node = tree_make(&retain->tree, msg_topic(msg));
    if (!node) {
        return -1;
    }
    set(retain, (struct retain_node *)node, msg);
    return 0;
}

/* It uses its node, so that one whose message is gone stays until that is told. */
static void note_change(struct retain *retain, struct retain_node *node, struct msg *msg)
{
    if (node->changed) {
        msg_unref(node->changed);
    } else {
        node->node.uses++;
        node->next_changed = retain->changed;
        retain->changed = node;
    }
    node->changed = msg_ref(msg);
}

int retain_update_stored(struct retain *retain, struct msg *msg)
{
    struct tree_node *node = msg->payload_size > 0 ? tree_make(&retain->tree, msg_topic(msg))
                                                   : tree_find(&retain->tree, msg_topic(msg));
    struct retain_node *r = (struct retain_node *)node;
    if (!node || (msg->payload_size == 0 && !r->msg && !r->changed)) {
        return msg->payload_size > 0 ? -1 : 0;
    }
    note_change(retain, r, msg);
    return retain_update(retain, msg);
}

void retain_collect(struct retain *retain, void (*fn)(void *arg, struct msg *msg), void *arg)
{
    while (retain->changed) {
        struct retain_node *node = retain->changed;
        struct msg *msg = node->changed;
        retain->changed = node->next_changed;
        node->changed = NULL;
        node->node.uses--;
        fn(arg, msg);
        msg_unref(msg);
        tree_prune(&retain->tree, &node->node);
    }
}

int retain_again(struct retain *retain, struct msg *msg)
{
    struct retain_node *node = (struct retain_node *)tree_make(&retain->tree, msg_topic(msg));
    if (!node) {
        return -1;
    }
    if (!node->changed) {
        note_change(retain, node, msg);
    }
    return 0;
}

struct visit {
    const struct tree *tree;
    void (*fn)(void *arg, struct msg *msg);
    void *arg;
    size_t *visited;
};

static void visit_node(const struct visit *visit, const struct tree_node *node)
{
    const struct retain_node *r = (const struct retain_node *)node;
    if (r->msg) {
        visit->fn(visit->arg, r->msg);
    }
}

/* Topics that start with '$' are not met by a wildcard at the first level [MQTT-4.7.2-1]. */
static bool hidden(const struct tree_node *node)
{
    return !node->parent->parent && node->level_size > 0 && node->level[0] == '$';
}

static void visit_below(const struct visit *visit, const struct tree_node *node)
{
    (*visit->visited)++;
    visit_node(visit, node);
    for (const struct tree_node *child = node->child; child; child = child->next) {
        if (!hidden(child)) {
            visit_below(visit, child);
        }
    }
}

static void visit_filter(const struct visit *visit, const struct tree_node *node, struct topic_walk walk)
{
    struct slice level;
    (*visit->visited)++;
    if (!topic_next_level(&walk, &level)) {
        visit_node(visit, node);
    } else if (slice_eq(level, slice_str("#"))) {
        visit_below(visit, node);
    } else if (slice_eq(level, slice_str("+"))) {
        for (const struct tree_node *child = node->child; child; child = child->next) {
            if (!hidden(child)) {
                visit_filter(visit, child, walk);
            }
        }
    } else {
        const struct tree_node *child =
            tree_child(visit->tree, node, level, tree_hash_level(visit->tree, level));
        if (child) {
            visit_filter(visit, child, walk);
        }
    }
}

size_t retain_match(struct retain *retain, struct slice filter, void (*fn)(void *arg, struct msg *msg),
                    void *arg)
{
    size_t visited = 0;
    struct visit visit = {&retain->tree, fn, arg, &visited};
    visit_filter(&visit, retain->tree.root, topic_walk(filter));
    return visited;
}

static void sweep_below(struct retain *retain, struct tree_node *node,
                        bool (*drop)(void *arg, const struct msg *msg), void *arg)
{
    node->uses++; /* holds it while its children go */
    for (struct tree_node *child = node->child, *next; child; child = next) {
        next = child->next;
        sweep_below(retain, child, drop, arg);
    }
    node->uses--;
    struct retain_node *r = (struct retain_node *)node;
    if (r->msg && drop(arg, r->msg)) {
        set(retain, r, NULL);
    } else {
        tree_prune(&retain->tree, node);
    }
}

void retain_sweep(struct retain *retain, bool (*drop)(void *arg, const struct msg *msg), void *arg)
{
    sweep_below(retain, retain->tree.root, drop, arg);
}
