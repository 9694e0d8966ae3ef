/* What monitors expect every process to tell of itself, under the names they know: resident memory,
 * descriptors, CPU time, start, and which version this is. Read when metrics are rendered. */
#pragma once

/* Once per process, before the first render. Lives as long as the process. */
void mj_process_metrics(void);
