/* Directories made with their parents. That their names survive a power loss is shown by
 * tests/reliability. */
#include "cmocka_all.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/dirs.h"
#include "base/err.h"

static char root[] = "/tmp/moonjet-dirs-XXXXXX";

static int enter(void **state)
{
    (void)state;
    return !mkdtemp(root) || chdir(root);
}

static int leave(void **state)
{
    (void)state;
    return chdir("/") || rmdir(root);
}

static void is_dir(const char *path)
{
    struct stat s;
    assert_int_equal(stat(path, &s), 0);
    assert_true(S_ISDIR(s.st_mode));
    assert_int_equal(s.st_mode & 0777, 0700);
}

static void makes_all_of_them(void **state)
{
    (void)state;
    char path[64];
    for (int i = 0; i < 2; i++) { /* the second time they are there */
        assert_int_equal(mj_make_dirs("a/b//c/"), 0);
        is_dir("a");
        is_dir("a/b");
        is_dir("a/b/c");
        snprintf(path, sizeof path, "%s/d/e", root);
        assert_int_equal(mj_make_dirs(path), 0);
        is_dir(path);
    }
    assert_int_equal(mj_make_dirs("/"), 0);
    assert_int_equal(mj_make_dirs("."), 0);
    assert_int_equal(rmdir("a/b/c") | rmdir("a/b") | rmdir("a") | rmdir("d/e") | rmdir("d"), 0);
}

static void says_what_is_in_the_way(void **state)
{
    (void)state;
    FILE *f = fopen("file", "w");
    assert_non_null(f);
    fclose(f);
    assert_int_equal(mj_make_dirs("file/sub"), MJ_EIO);
    assert_int_equal(errno, ENOTDIR);
    assert_int_equal(mj_make_dirs(""), MJ_EIO);
    assert_int_equal(unlink("file"), 0);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(makes_all_of_them),
        cmocka_unit_test(says_what_is_in_the_way),
    };
    return cmocka_run_group_tests(tests, enter, leave);
}
