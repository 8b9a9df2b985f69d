/*
 * ports.h - free ports on loopback, for tests of what listens.
 *
 * Chosen below the range from which the system takes ports for clients, so that none of those gets one in the
 * time between the look and its use.
 */
#ifndef BRAMBLE_TEST_PORTS_H
#define BRAMBLE_TEST_PORTS_H

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

/* A socket that listens on 127.0.0.1, on a port of which nobody else has any part. */
static inline int port_listen(int *port)
{
    for (int tries = 0; tries < 1000; tries++) {
        uint16_t random = 0;
        assert_int_equal(getrandom(&random, sizeof random, 0), sizeof random);
        *port = 10000 + random % 22000;
        struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons((uint16_t)*port)};
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_true(fd >= 0);
        in.sin_addr.s_addr = htonl(INADDR_ANY);
        bool taken = bind(fd, (struct sockaddr *)&in, sizeof in) < 0;
        close(fd);
        fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        if (!taken && bind(fd, (struct sockaddr *)&in, sizeof in) == 0 && listen(fd, 1) == 0) {
            return fd;
        }
        close(fd);
    }
    fail_msg("no port is free");
    return -1;
}

static inline int port_free(void)
{
    int port;
    close(port_listen(&port));
    return port;
}

#endif
