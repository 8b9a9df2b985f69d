/*
 * tool_acl.h - the tool `bramble acl check`: what the ACL says of a client and a topic, and which line says
 * so.
 */
#ifndef BRAMBLE_TOOL_ACL_H
#define BRAMBLE_TOOL_ACL_H

/* Returns the exit status: 0 allowed, 1 denied, 2 wrong arguments or files. */
int acl_tool(int argc, char **argv);

#endif
