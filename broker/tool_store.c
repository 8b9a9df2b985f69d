/*
 * tool_store.c - `bramble store check|dump|vacuum FILE`: the same code as the daemon's looks at the file. See
 * tool_store.h.
 *
 * What a command finds goes to stdout, why it could not to stderr; the status says which.
 */
#include "broker/tool_store.h"
#include "broker/store_sqlite.h"
#include <stdio.h>
#include <string.h>

enum { WHOLE, DAMAGED, TROUBLE };

static const char usage[] =
    "bramble store looks at the file in which a broker keeps what must not be lost.\n"
    "\n"
    "Usage: bramble store check FILE\n"
    "       bramble store dump FILE\n"
    "       bramble store vacuum FILE\n"
    "\n"
    " check   reads all of it, with its -wal, and says what is damaged; changes nothing\n"
    " dump    writes all that is in it as text, one object a line; changes nothing\n"
    " vacuum  writes it anew, without the room of what is gone; not while a broker has it open\n"
    "\n"
    "FILE is persistence_location and persistence_file of the configuration together\n"
    "(/var/lib/bramble/bramble.db). Its -wal and -shm belong to it: copy and move all three.\n"
    "\n"
    "The status is 0 when the file is whole, 1 when it is damaged, 2 when it is no store of bramble, cannot\n"
    "be read, or the command is not understood.\n";

static const struct command {
    const char *name;
    int (*run)(const char *path, FILE *out, FILE *err);
} commands[] = {{"check", storage_check}, {"dump", storage_dump}, {"vacuum", storage_vacuum}};

static int wrong(const char *what, const char *value)
{
    fprintf(stderr, "bramble store: %s%s\nSee: bramble store -h\n", what, value);
    return TROUBLE;
}

/* What was written to stdout is part of the answer: half a dump must not look like a whole one. */
static int finish(int status)
{
    if (fflush(stdout) == EOF || ferror(stdout)) {
        perror("bramble store: stdout");
        return TROUBLE;
    }
    return status == WHOLE || status == DAMAGED ? status : TROUBLE;
}

int store_tool(int argc, char **argv)
{
    if (argc == 2 && (strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "--help") == 0)) {
        fputs(usage, stdout);
        return finish(WHOLE);
    }
    const struct command *command = NULL;
    for (size_t i = 0; argc > 1 && i < sizeof commands / sizeof *commands; i++) {
        if (strcmp(argv[1], commands[i].name) == 0) {
            command = &commands[i];
        }
    }
    if (!command) {
        return wrong(argc > 1 ? "there is no command " : "a command is needed: check, dump or vacuum",
                     argc > 1 ? argv[1] : "");
    }
    if (argc != 3) {
        return wrong("one FILE is needed after ", argv[1]);
    }
    return finish(command->run(argv[2], stdout, stderr));
}
