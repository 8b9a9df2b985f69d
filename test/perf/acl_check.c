/*
 * acl_check.c - asks an acl_file the same question n times: FILE N USER CLIENT TOPIC. For acl_cost.py, which
 * counts the instructions; prints how often the answer was yes.
 */
#include "broker/acl.h"

#include <stdlib.h>

int main(int argc, char **argv)
{
    struct err err;
    struct acl *acl = argc == 6 ? acl_load(argv[1], &err) : NULL;
    if (!acl) {
        fprintf(stderr, "%s\n", argc == 6 ? err.text : "usage: acl_check FILE N USER CLIENT TOPIC");
        return 1;
    }
    struct principal who = {.user = argv[3], .client_id = argv[4]};
    int yes = 0;
    for (int n = atoi(argv[2]); n > 0; n--)
        yes += acl_allows(acl, &who, ACL_READ, slice_str(argv[5]));
    printf("%d\n", yes);
    acl_unref(acl);
    return 0;
}
