/*
 * tool_store.h - the tool `bramble store`: a store that no daemon has open is checked, shown, made smaller.
 */
#ifndef BRAMBLE_TOOL_STORE_H
#define BRAMBLE_TOOL_STORE_H

/* Returns the exit status: 0 whole (done), 1 damaged, 2 not one of ours, not readable, or wrong arguments. */
int store_tool(int argc, char **argv);

#endif
