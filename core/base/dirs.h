/* Directories that stay where they were made. */
#pragma once

/* mkdir -p, for the owner alone. The name of each directory made is on the disk when this returns:
 * until its parent is synced, a directory may be gone after a power loss with all that was synced
 * in it. 0, or MJ_EIO with errno set. */
int mj_make_dirs(const char *path);
/* The names in a directory are on the disk when this returns. Nothing where the file system does
 * not know how, or we may not read the directory. 0, or MJ_EIO with errno set. */
int mj_sync_dir(const char *path);
