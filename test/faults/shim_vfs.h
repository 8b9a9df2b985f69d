/*
 * shim_vfs.h - a disk for SQLite that notes what is written to it, fails when told to, and whose power can be
 * cut.
 *
 * The shim is a VFS on top of SQLite's own. Files are real, so a test may kill, copy and reopen; what the
 * shim adds is a log of all writes, syncs and truncations of one store (its file and its -wal). From the log
 * a disk is made as a power cut at any place of it could have left it: what was synced is there; of what was
 * not, each piece of 512 bytes is there or not, by chance. A sync that failed settles nothing, and what it
 * was for is not tried again by the next one: as Linux does it.
 *
 * Not a real sync is made. One store at a time; any thread.
 */
#ifndef SHIM_VFS_H
#define SHIM_VFS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum shim_file { SHIM_MAIN, SHIM_WAL, SHIM_FILES };
enum shim_fault { SHIM_EIO, SHIM_ENOSPC, SHIM_FAULTS };

/* Makes the shim what sqlite3_open() uses. Once. */
void shim_install(void);

/* Forgets the log and the faults; from now on this store is watched, as it is on the disk now. */
void shim_watch(const char *path);
/* Writes, syncs, truncations and removals since then. */
size_t shim_position(void);
/* "sync of -wal", "write of 24 bytes at 32 to -wal": what operation number position was. In a static buffer.
 */
const char *shim_operation(size_t position);

/* From the operation at that position on, so many fail: of a write, half is written. */
void shim_fail(size_t position, size_t count, enum shim_fault fault);
/* How many have failed. */
size_t shim_failed(void);

/* Puts a store under path as a power cut before the operation at that position could have left it. The -shm
 * is none, or one that was there at some time before. seed: which of all that could be. */
void shim_cut(size_t position, unsigned int seed, const char *path);

/* ---- files, for tests ---- */

struct bytes {
    uint8_t *p;
    size_t n, room;
    bool exists;
};

/* The whole file; the caller frees p. */
struct bytes bytes_read(const char *path, const char *ending);
/* Replaces the file, or removes it when it does not exist. */
void bytes_write(const char *path, const char *ending, const struct bytes *bytes);
unsigned int chance(unsigned int *seed); /* 0 to 65535 */

#endif
