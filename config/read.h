/*
 * read.h - inside config/: whole files, and the *.conf files of a folder.
 */
#ifndef BRAMBLE_CONFIG_READ_H
#define BRAMBLE_CONFIG_READ_H

#include <stddef.h>
#include <sys/types.h>

/* All bytes of an open file that should have so many (0: not known), with room for one more behind them;
 * free() it. NULL with errno (EFBIG: more than 4 MiB, which no configuration has). */
char *read_all(int fd, off_t expected, size_t *size);

/* The paths of the *.conf files of a folder in mosquitto's order; read_names_free() them. 0, or -1 with errno
 * and nothing to free. */
int read_folder(const char *path, char ***names, size_t *count);
void read_names_free(char **names, size_t count);

#endif
