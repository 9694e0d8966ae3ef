/* Whether a file of LMDB can be read to its end.
 *
 * LMDB trusts its file: a page that a dying disk or a copy cut short has spoiled makes it abort, or
 * read where nothing is. So another process reads everything first, and what happens to that one
 * tells. */
#pragma once

/* Reads the environment in `dir`, before it is opened. 0, also when there is none or it does not
 * open, which mdb_env_open() explains better; MJ_ESYNTAX when it is damaged. Takes as long as to
 * read the file once. */
int mj_disk_probe(const char *dir);
/* Renames a file whose first sync never came to an end: the power went while LMDB made it. LMDB
 * starts with two pages that say what it is, and syncs before anything counts; so where one of them
 * has never reached the disk nothing was kept, and nothing is lost with the file. LMDB itself would
 * refuse it for ever. */
void mj_disk_put_unborn_aside(const char *dir);
