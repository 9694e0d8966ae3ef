// Lines of a Jetstream as text.

// time_us is the router's own clock; everything else of a line is determined by its frame.
export const mask = (line) => line.replace(/"time_us":\d+/, '"time_us":0')
export const timeUs = (line) => BigInt(/"time_us":(\d+)/.exec(line)[1])
