/*
 * tree.h - a tree of topic levels, with one hash table for all its edges.
 *
 * Subscriptions, retained messages and the rules of an acl_file hang on such trees. A node is embedded as the
 * first member of what its user needs there; a child is found by (parent, level) in the one table, so a
 * look-up costs the same whether a node has three children or a hundred thousand. The hash is seeded per
 * process: nobody can choose colliding topics.
 *
 *      root -- "sport" -- "tennis" -- "#"          edge table:  hash(root,"sport") -> node
 *                    \--- "+"                                   hash(sport,"tennis") -> node ...
 */
#ifndef BRAMBLE_TREE_H
#define BRAMBLE_TREE_H

#include "broker/slice.h"

struct tree_node {
    struct tree_node *parent, *child, *next, *prev; /* child: the first; next, prev: its siblings */
    struct tree_node *chain;                        /* same place in the edge table */
    uint32_t hash;
    uint32_t uses;  /* children, and whatever the user hangs on it; at 0 it is pruned */
    uint8_t *level; /* in the same block, behind the user's structure */
    uint16_t level_size;
};

struct tree {
    struct tree_node *root;
    struct tree_node **table;
    uint32_t mask, used; /* room for mask + 1 buckets, a power of two; those in use (tree.c) */
    uint32_t count;      /* nodes, without the root */
    size_t node_size;
    uint64_t seed;
    bool counted;
};

/* node_size: of the structure that starts with a tree_node; new ones are zeroed. counted: what it takes
 * stands in the account of memory (mem.h), so it belongs to the loop thread. 0, or -1 without memory. */
int tree_init(struct tree *tree, size_t node_size, bool counted);
/* Frees all nodes; drop(node) is called for each first, it may be NULL. */
void tree_destroy(struct tree *tree, void (*drop)(struct tree_node *node));

/* Hash of a level, to be used for any number of look-ups of that level under different parents. */
uint32_t tree_hash_level(const struct tree *tree, struct slice level);
/* The child of parent, or NULL. */
struct tree_node *tree_child(const struct tree *tree, const struct tree_node *parent, struct slice level,
                             uint32_t hash);

/* The node of a topic or filter, level by level; NULL when there is none. */
struct tree_node *tree_find(const struct tree *tree, struct slice topic);
/* The same, made as needed; NULL without memory (nothing is left behind). The caller adds its use, or prunes.
 */
struct tree_node *tree_make(struct tree *tree, struct slice topic);
/* The child with this level, whatever bytes that has, made when it is not there. As with tree_make(). */
struct tree_node *tree_make_child(struct tree *tree, struct tree_node *parent, struct slice level);

/* Frees the node and its parents as far as nobody uses them. The root stays. */
void tree_prune(struct tree *tree, struct tree_node *node);

/* Writes the whole topic of a node into buf; returns its length, or 0 when it does not fit into size bytes.
 */
size_t tree_topic(const struct tree_node *node, uint8_t *buf, size_t size);

#endif
