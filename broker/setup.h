/*
 * setup.h - the tool `bramble setup DIR`: a secure broker's files, made from nothing.
 */
#ifndef BRAMBLE_SETUP_H
#define BRAMBLE_SETUP_H

/* Returns the exit status. */
int setup_tool(int argc, char **argv);

#endif
