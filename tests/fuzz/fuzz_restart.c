/* Notes of restarts: whatever a file or the environment holds, what is read is whole and bounded.
 */
#include <stdlib.h>

#include "../../core/cli/run_restart.c"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct run_notes n;
    bool out, loading;
    memset(&n, 0, sizeof n);
    run_notes_parse(&n, mj_span(data, size), INT64_C(1000000000000));
    if (n.count > RUN_NOTES_MAX || n.cursor_count > MJ_SOURCES_MAX)
        abort();
    for (size_t i = 0; i < n.count; i++)
        if (!*n.notes[i].what || !*n.notes[i].path ||
            run_notes_count(&n, n.notes[i].path, &out, &loading) == 0)
            abort();
    for (size_t i = 0; i < n.cursor_count; i++)
        if (n.cursors[i].seq < 0 || !*n.cursors[i].url)
            abort();
    return 0;
}
