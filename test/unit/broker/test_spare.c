/*
 * test_spare.c - descriptors kept back: a full process can open files again once they are given, and gets
 * them back.
 */
#include "broker/spare.h"
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

static int held(const struct spare *spare)
{
    int count = 0;

    for (int i = 0; i < SPARE_FDS; i++)
        count += spare->fd[i] >= 0;
    return count;
}

/* Opens all descriptors that are left; returns how many. */
static int use_up(int *fds, int most)
{
    int count = 0;

    while (count < most && (fds[count] = dup(STDIN_FILENO)) >= 0)
        count++;
    return count;
}

static void kept_for_who_needs_them(void **state)
{
    const struct rlimit few = {64, 64};
    struct spare spare;
    int fds[64], count;

    (void)state;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
    spare_init(&spare);
    assert_int_equal(held(&spare), 0);
    spare_give(&spare);
    spare_take(&spare);
    assert_int_equal(held(&spare), SPARE_FDS);
    spare_take(&spare); /* takes no more */
    assert_int_equal(held(&spare), SPARE_FDS);
    for (int i = 0; i < SPARE_FDS; i++)
        assert_int_equal(fcntl(spare.fd[i], F_GETFD), FD_CLOEXEC);

    count = use_up(fds, 64);
    assert_true(count > 0 && count < 64 - SPARE_FDS);
    assert_int_equal(open("/dev/null", O_RDONLY | O_CLOEXEC), -1);
    spare_give(&spare);
    assert_int_equal(held(&spare), 0);
    for (int i = 0; i < SPARE_FDS; i++)
        assert_true((fds[count++] = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0);

    spare_take(&spare); /* there are none: later, then */
    assert_int_equal(held(&spare), 0);
    for (int i = 0; i < 5; i++)
        close(fds[--count]);
    spare_take(&spare);
    assert_int_equal(held(&spare), 5);
    while (count > 0)
        close(fds[--count]);
    spare_take(&spare);
    assert_int_equal(held(&spare), SPARE_FDS);
    spare_give(&spare);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(kept_for_who_needs_them)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
