/*
 * test_tree.c - the tree of topic levels and its one table of edges.
 */
#include "broker/mem.h"
#include "broker/tree.h"
#include "random.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

struct item {
    struct tree_node node;
    int value;
};

static struct tree tree;

static int setup(void **unused)
{
    (void)unused;
    return tree_init(&tree, sizeof(struct item), true);
}

static int teardown(void **unused)
{
    (void)unused;
    tree_destroy(&tree, NULL);
    return 0;
}

static struct tree_node *make(const char *topic)
{
    struct tree_node *node = tree_make(&tree, slice_str(topic));
    assert_non_null(node);
    return node;
}

static struct tree_node *find(const char *topic)
{
    return tree_find(&tree, slice_str(topic));
}

static void use(const char *topic)
{
    make(topic)->uses++;
}

static void unuse(const char *topic)
{
    struct tree_node *node = find(topic);
    assert_non_null(node);
    node->uses--;
    tree_prune(&tree, node);
}

static void finds_what_was_made(void **unused)
{
    (void)unused;
    struct tree_node *node = make("a/b/c");
    assert_int_equal(((struct item *)node)->value, 0);
    assert_ptr_equal(find("a/b/c"), node);
    assert_ptr_equal(make("a/b/c"), node);
    assert_ptr_equal(find("a/b"), node->parent);
    assert_ptr_equal(find("a")->parent, tree.root);
    assert_null(find("a/b/d"));
    assert_null(find("b"));
    assert_null(find("a/b/c/d"));
    assert_null(find("a/b/"));
    assert_int_equal(tree.count, 3);
    tree_prune(&tree, node);
}

static void empty_levels_are_levels(void **unused)
{
    static const char *const topics[] = {"/", "//", "a", "a/", "/a", "a//b", "///"};
    (void)unused;
    for (size_t i = 0; i < 7; i++) {
        use(topics[i]);
    }
    for (size_t i = 0; i < 7; i++) {
        for (size_t k = 0; k < i; k++) {
            assert_ptr_not_equal(find(topics[i]), find(topics[k]));
        }
        uint8_t buf[8];
        assert_int_equal(tree_topic(find(topics[i]), buf, sizeof buf), strlen(topics[i]));
        assert_memory_equal(buf, topics[i], strlen(topics[i]));
    }
    for (size_t i = 0; i < 7; i++) {
        unuse(topics[i]);
    }
    assert_int_equal(tree.count, 0);
}

static void prunes_as_far_as_nobody_uses_it(void **unused)
{
    (void)unused;
    use("a/b/c/d");
    use("a/b");
    use("a/x");
    assert_int_equal(tree.count, 5);
    unuse("a/b/c/d");
    assert_null(find("a/b/c"));
    assert_non_null(find("a/b"));
    assert_int_equal(tree.count, 3);
    unuse("a/b");
    assert_null(find("a/b"));
    assert_int_equal(tree.count, 2);
    unuse("a/x");
    assert_int_equal(tree.count, 0);
    assert_null(tree.root->child);
    assert_int_equal(tree.root->uses, 1);
}

/* Siblings are a list: whichever goes first, the others stay on it. */
static void keeps_siblings_together(void **unused)
{
    static const int orders[6][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
    static const char *const topics[] = {"p/one", "p/two", "p/three"};
    (void)unused;
    for (int o = 0; o < 6; o++) {
        for (int i = 0; i < 3; i++) {
            use(topics[i]);
        }
        for (int i = 0; i < 3; i++) {
            int left = 0;
            for (struct tree_node *n = find("p")->child; n; n = n->next) {
                assert_true(!n->next || n->next->prev == n);
                left++;
            }
            assert_int_equal(left, 3 - i);
            unuse(topics[orders[o][i]]);
        }
        assert_int_equal(tree.count, 0);
    }
}

static void writes_the_topic_only_when_it_fits(void **unused)
{
    uint8_t buf[6];
    (void)unused;
    struct tree_node *node = make("ab/cde");
    assert_int_equal(tree_topic(node, buf, 5), 0);
    assert_int_equal(tree_topic(node, buf, 6), 6);
    assert_memory_equal(buf, "ab/cde", 6);
    tree_prune(&tree, node);
}

static void level_bytes_may_be_anything(void **unused)
{
    (void)unused;
    char level[300];
    memset(level, 0xC3, sizeof level);
    for (size_t n = 1; n < sizeof level; n++) {
        struct tree_node *node = tree_make(&tree, slice_of(level, n));
        node->uses++;
        assert_int_equal(node->level_size, n);
    }
    assert_int_equal(tree.count, sizeof level - 1);
    for (size_t n = 1; n < sizeof level; n++) {
        struct tree_node *node = tree_find(&tree, slice_of(level, n));
        assert_int_equal(node->level_size, n);
        node->uses--;
        tree_prune(&tree, node);
    }
    assert_int_equal(tree.count, 0);
}

/* The table grows with the nodes; all are found again, and each is its own. */
static void grows(void **unused)
{
    enum { MANY = 20000 };
    char topic[40];
    (void)unused;
    uint32_t first_mask = tree.mask;
    for (int i = 0; i < MANY; i++) {
        snprintf(topic, sizeof topic, "room/%d/x%d", i % 100, i);
        struct tree_node *node = make(topic);
        node->uses++;
        ((struct item *)node)->value = i;
    }
    assert_int_equal(tree.count, 1 + 100 + MANY);
    assert_true(tree.mask > first_mask);
    assert_true(tree.mask < 4 * MANY);
    for (int i = 0; i < MANY; i++) {
        snprintf(topic, sizeof topic, "room/%d/x%d", i % 100, i);
        assert_int_equal(((struct item *)find(topic))->value, i);
        unuse(topic);
    }
    assert_int_equal(tree.count, 0);
}

/* A node more or less moves those of a few buckets and no others; between two steps of that all are found;
 * and what the table took is given back. */
static void grows_and_shrinks_bit_by_bit(void **unused)
{
    enum { MANY = 1000, STEPS = 4 };
    (void)unused;
    uint64_t held = mem_held();
    uint32_t first = tree.used;
    for (int step = 0; step < 2 * MANY; step++) {
        bool up = step < MANY;
        int there = up ? step + 1 : 2 * MANY - 1 - step;
        uint32_t used = tree.used;
        char topic[24];
        snprintf(topic, sizeof topic, "%d", up ? step : there);
        if (up) {
            use(topic);
        } else {
            unuse(topic);
        }
        assert_in_range(tree.used + STEPS, used, used + 2 * STEPS);
        assert_in_range(tree.count, tree.used > first ? tree.used / 4 : 0, tree.used - tree.used / 4);
        assert_in_range(tree.used, tree.mask / 2 + 1, tree.mask + 1);
        for (int i = 0; i < MANY; i++) {
            snprintf(topic, sizeof topic, "%d", i);
            assert_int_equal(find(topic) != NULL, i < there);
        }
    }
    assert_int_equal(tree.used, first);
    assert_int_equal(tree.mask, first - 1);
    assert_int_equal(mem_held(), held);
}

static int dropped;

static void count_drop(struct tree_node *node)
{
    (void)node;
    dropped++;
}

static void destroy_drops_every_node_once(void **unused)
{
    struct tree other;
    (void)unused;
    assert_int_equal(tree_init(&other, sizeof(struct item), true), 0);
    assert_non_null(tree_make(&other, slice_str("a/b/c")));
    assert_non_null(tree_make(&other, slice_str("a/b/d")));
    dropped = 0;
    tree_destroy(&other, count_drop);
    assert_int_equal(dropped, 4 + 1); /* the root as well */
    assert_int_equal(tree_init(&other, sizeof(struct item), true), 0);
    assert_non_null(tree_make(&other, slice_str("a/b")));
    tree_destroy(&other, NULL); /* what it frees itself is all there is */
}

/* Random making and unmaking against a plain table of flags. */
static void random_topics_agree_with_a_table(void **unused)
{
    enum { LEVELS = 5, TOPICS = LEVELS * LEVELS * LEVELS };
    static bool used[TOPICS];
    struct random random = {3};
    (void)unused;
    for (int i = 0; i < 50000; i++) {
        uint32_t t = random_below(&random, TOPICS);
        char topic[16];
        snprintf(topic, sizeof topic, "%u/%u/%u", t % 5, t / 5 % 5, t / 25);
        if (used[t]) {
            assert_non_null(find(topic));
            unuse(topic);
        } else {
            use(topic);
        }
        used[t] = !used[t];
        if (!used[t] && find(topic)) {
            fail_msg("%s is still there", topic); /* it has no children, so it must be gone */
        }
    }
    for (uint32_t t = 0; t < TOPICS; t++) {
        char topic[16];
        snprintf(topic, sizeof topic, "%u/%u/%u", t % 5, t / 5 % 5, t / 25);
        assert_int_equal(find(topic) != NULL, used[t]);
        if (used[t]) {
            unuse(topic);
        }
    }
    assert_int_equal(tree.count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(finds_what_was_made, setup, teardown),
        cmocka_unit_test_setup_teardown(empty_levels_are_levels, setup, teardown),
        cmocka_unit_test_setup_teardown(prunes_as_far_as_nobody_uses_it, setup, teardown),
        cmocka_unit_test_setup_teardown(keeps_siblings_together, setup, teardown),
        cmocka_unit_test_setup_teardown(writes_the_topic_only_when_it_fits, setup, teardown),
        cmocka_unit_test_setup_teardown(level_bytes_may_be_anything, setup, teardown),
        cmocka_unit_test_setup_teardown(grows, setup, teardown),
        cmocka_unit_test_setup_teardown(grows_and_shrinks_bit_by_bit, setup, teardown),
        cmocka_unit_test(destroy_drops_every_node_once),
        cmocka_unit_test_setup_teardown(random_topics_agree_with_a_table, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
