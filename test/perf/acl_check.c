/*
 * acl_check.c - asks an acl_file the same question n times: FILE N USER CLIENT TOPIC ACTION. For acl_cost.py,
 * which counts the instructions; prints how often the answer was yes.
 */
#include "broker/acl.h"

#include <stdlib.h>

static bool ask(const struct acl *acl, const struct principal *who, struct slice topic, const char *action)
{
    return *action == 'c'   ? acl_admits(acl, who).allowed
           : *action == 'p' ? acl_publishes(acl, who, topic, 1, false).allowed
                            : acl_allows(acl, who, ACL_READ, topic);
}

int main(int argc, char **argv)
{
    struct err err;
    struct acl *acl = argc == 7 ? acl_load(argv[1], &err) : NULL;
    if (!acl) {
        fprintf(stderr, "%s\n",
                argc == 7 ? err.text : "usage: acl_check FILE N USER CLIENT TOPIC receive|publish|connect");
        return 1;
    }
    struct principal who = {.user = argv[3], .client_id = argv[4], .address = "10.1.2.3"};
    int yes = 0;
    for (int n = atoi(argv[2]); n > 0; n--)
        yes += ask(acl, &who, slice_str(argv[5]), argv[6]);
    printf("%d\n", yes);
    acl_unref(acl);
    return 0;
}
