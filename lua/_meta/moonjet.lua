---@meta
--- Types of Moonjet's script surface, for language servers that know LuaCATS annotations. Point
--- yours at this folder (lua-language-server: `workspace.library`). Nothing here is ever run. The
--- reference in docs/scripting.md is generated from this file: every function says what it takes,
--- in which unit, what it returns when something fails, and where it may be called.
---
--- Conventions: durations and rates are texts ("90s", "1h30m", "6/m"); arguments are data, then
--- function, then options; what may fail at run time returns nil and a message; misuse is an error;
--- an option nobody knows is an error that names the nearest.

---@class jet
jet = {}

---@alias jet.Duration string "500ms", "90s", "10m", "1h30m", "7d"
---@alias jet.Rate string "5/s", "6/m", "100/h", "5/10s"
---@alias jet.Value string | number | boolean

-- # Flows

---@alias jet.Kind "commit" | "identity" | "account"
---@alias jet.Op "create" | "update" | "delete"

--- A value of a match key: a text, a list of which one must fit, a named set, or a wrapped one.
--- Members of a set are compared as they are: behind lang, tags and links, write them in lower case.
---@alias jet.MatchValue string | jet.MatchValue[] | jet.Set | jet.Wrapped

---@class jet.Wrapped

--- Which events a flow wants; all keys must fit. A key asks for something the event has.
---@class jet.MatchTable
---@field kind? jet.Kind | jet.Kind[] | jet.Wrapped
---@field collection? jet.MatchValue an NSID, or `app.bsky.*`
---@field op? jet.Op | jet.Op[] | jet.Wrapped
---@field did? jet.MatchValue who wrote it
---@field lang? jet.MatchValue one of the record's `langs`, whatever its case; "pt" also matches "pt-BR"
---@field text? jet.MatchValue | jet.Words words that occur in the record's `text`, as in `jet.words`
---@field words? jet.MatchValue | jet.Words the same, in alt texts, link cards and tags as well
---@field mentions? jet.MatchValue DIDs its rich text mentions
---@field links? jet.MatchValue hosts its rich text, or its link card, links to; "example.com" also matches the hosts below it
---@field tags? jet.MatchValue hashtags in or beside the text, without "#", whatever their case
---@field reply? boolean true: replies only, false: roots only (of records with a `text`)
---@field reply_to? jet.MatchValue whom, or what, it replies to: a DID or an AT URI
---@field root? jet.MatchValue who, or what, started the thread: a DID or an AT URI
---@field quotes? boolean | jet.MatchValue true: what embeds a record, false: what has a `text` and does not; or whose, or which, record it embeds
---@field subject? jet.MatchValue who, or what, is liked, reposted, followed or blocked: a DID (also of the record's author) or an AT URI
---@field has? string | string[] | jet.Wrapped paths that exist in the record, all of them
---@field record? table<string, jet.Value | jet.MatchValue> values at paths of the record: texts, whole numbers, booleans; at most 64 paths

--- "app.bsky.feed.post:create", "app.bsky.graph.*", "*:delete", "#identity", "*"; a table whose
--- keys must all fit; or a list of which one must fit.
---@alias jet.Match string | jet.MatchTable | jet.Match[] | jet.Wrapped

--- Opens a flow of the events that match, each as it came from the network; or, from a stream or a
--- list of streams, of what other flows put there, as they left it.
---@param match jet.Match | jet.Sink | jet.Sink[]
---@return jet.Flow
function jet.from(match) end

--- The main stream: what /subscribe serves. Operators narrow or rewrite it, one after the other,
--- and after those of the scripts loaded before.
---@return jet.Flow
function jet.main() end

--- A stream of its own, served at /stream/NAME/subscribe. Flows and scripts may share one. There are
--- at most 64 names, main among them; one that was used counts until the restart, and with --data
--- for as long as the directory is kept.
---@param name string 1 to 64 of a-z 0-9 . _ -
---@return jet.Sink
function jet.stream(name) end

--- Events as JSON lines on stdout.
---@return jet.Sink
function jet.print() end

---@class jet.WebhookOptions
---@field url string where to post to: https, or http for hosts that `allow` names; no user name in it
---@field secret? string | string[] from jet.secret: "whsec_…" signs with HMAC-SHA256, "whsk_…" with Ed25519; of several, each signs, so that a receiver can change keys at its leisure. Without it nothing is signed, and the receiver cannot tell who posts
---@field github_secret? string any text: signs in GitHub's way, too (X-Hub-Signature-256)
---@field signature? "standard" | "github" "github": `secret` is any text, and signs in that way only
---@field allow? string | string[] hosts, addresses and prefixes beside the public internet that it may reach: "hook.lan", "10.0.0.5:8080", "10.0.0.0/8"
---@field retry? { tries?: integer, min?: jet.Duration, max?: jet.Duration, for?: jet.Duration } how often in all, the wait after the first failure and the longest (doubled each time, a random part of it is waited), and for how long (write ["for"]); default from "5s" to "2h" for "75h", or until the journal would drop the event; then it is a dead letter
---@field refused? "dead" | "retry" what 4xx means other than 401, 403, 404, 408, 410, 425 and 429: a dead letter at once, or as any failure; default "dead"
---@field batch? { max?: integer, bytes?: integer, every?: jet.Duration } so many events in a request, at most 10,000; default 100, 1 MiB, and what came "1s" ago does not wait for more. Without it each event has its own
---@field order? "did" | "total" | "none" what waits for what: an account's events for each other, each for the one before, nothing; default "did"
---@field concurrency? integer requests at once, at most 256; default 4, with order "total" 1
---@field rate? jet.Rate requests, spread evenly
---@field timeout? jet.Duration of a request; default "15s"
---@field format? "event" | "batch" | fun(ev: jet.Event | jet.Event[]): (string | table | nil), string? the body: the event's JSON as Jetstream sends it; {"type":"moonjet.batch","timestamp":…,"data":[{"id":…,"event":…},…]}, which is the default with a batch; or what the function returns, a text or a table to be sent as JSON, and a content type. nil: nothing is sent. `ev.id` is the event's `webhook-id`
---@field headers? table<string, string> further headers, but those that Moonjet sets itself: webhook-…, moonjet-…, x-hub-signature…, idempotency-key, user-agent, host; 64 KiB at most
---@field name? string of the node, as :as() gives it; a second flow to the same webhook gets "NAME#2"

--- Posts events to an address, each signed and tried again until it is taken, in order; as a sink. What
--- waits is in the journal, under a position that belongs to the script's file name and the node's name:
--- it survives restart and reload, not a new name. Requests follow Standard Webhooks (docs/webhooks.md):
--- `webhook-id` is the same for every attempt. The format function has the 50 ms of any call.
---@param options jet.WebhookOptions
---@return jet.Sink
function jet.webhook(options) end

--- A plug-in as a sink: a C or Lua plug-in by name, with its options.
---@param plugin string
---@param options? table<string, any>
---@return jet.Sink
function jet.sink(plugin, options) end

--- What `x` does not match. Behind a key, the event must have that field.
---@param x jet.Match | jet.MatchValue | jet.Words | jet.Value
---@return jet.Wrapped
function jet.no(x) end

--- What at least one of the list matches.
---@param list (jet.Match | jet.MatchValue)[]
---@return jet.Wrapped
function jet.any(list) end

--- Values that start with `s`; behind any key that takes texts.
---@param s string
---@return jet.Wrapped
function jet.prefix(s) end

--- Words and phrases to look for: whole words, whatever their case, in one pass over the text however
--- many there are. A star at the start or end ("moon*") lets the word go on there. Letters, digits
--- and marks belong together; any other character, an apostrophe too, is one by itself, so "moon" is
--- found in "#moon" and "moon's". In scripts written without spaces (Chinese, Japanese, Thai, …)
--- every character is a word. At most a million words of 256 bytes, 16 MiB together. Top level only.
---@param list string[] | string
---@return jet.Words
function jet.words(list) end

---@class jet.Words

---@class jet.Sink

---@class jet.Flow
local Flow = {}

--- Lets through what the function says yes to, or what matches.
---@param test jet.Match | fun(ev: jet.Event): any
---@return jet.Flow
function Flow:where(test) end

--- Edits, passes or drops: the function returns the draft, or nil to drop the event.
---@param edit fun(draft: jet.Draft): jet.Draft?
---@return jet.Flow
function Flow:map(edit) end

--- Looks at each event; what the function returns does not matter.
---@param look fun(ev: jet.Event)
---@return jet.Flow
function Flow:tap(look) end

--- Names the last node, for logs and metrics. How far an each, a webhook or a plug-in is, is kept under
--- that name: without one it is the node's number, and another each before it changes that.
---@param name string 1 to 64 letters, digits, _ . -
---@return jet.Flow
function Flow:as(name) end

--- Removes what the paths of the record name, at most 32. Runs in C.
---@param ... string
---@return jet.Flow
function Flow:strip(...) end

--- Keeps, of the record, only what the paths name (at most 32), and `$type`. Runs in C.
---@param ... string
---@return jet.Flow
function Flow:keep(...) end

--- Replaces the text at the path, where there is one. Facets point into the old text: strip them.
--- Runs in C.
---@param path string
---@param text string
---@return jet.Flow
function Flow:redact(path, text) end

--- Lets through that part of the events: always the same ones, on every machine. By "did" it is
--- that part of the accounts. Runs in C.
---@param part number 0 to 1
---@param by? string what to choose by: "uri" (the default), another field of the event that is a text, a number or a boolean, or a path of the record; where there is none, by the DID
---@return jet.Flow
function Flow:sample(part, by) end

---@class jet.DedupeOptions
---@field by? string | fun(ev: jet.Event): jet.Value? "did", "rkey" or another field of the event that is a text, a number or a boolean (but `id`), else a path of the record; default "uri". nil, or a key the event does not have, lets it through
---@field within jet.Duration how long something counts as seen, from when it passed
---@field max? integer how many are remembered; default 1e5, at most 1e7, the oldest are forgotten first

--- Drops what came before. Goes by the events' time_us. Runs in C, but for a function in `by`.
---@param options jet.DedupeOptions
---@return jet.Flow
function Flow:dedupe(options) end

---@class jet.LimitOptions
---@field rate jet.Rate
---@field by? string | fun(ev: jet.Event): jet.Value? as for dedupe; without it, one limit for all
---@field burst? integer how many may come at once; default: the rate's number
---@field max? integer how many are told apart; default 1e5, at most 1e7

--- Drops what is too much. Goes by the events' time_us. Runs in C, but for a function in `by`.
---@param options jet.LimitOptions
---@return jet.Flow
function Flow:limit(options) end

---@class jet.BatchOptions
---@field max? integer events, at most 1e5; default 100
---@field every? jet.Duration the oldest event waits no longer; default "1s"
---@field bytes? integer of the kept events, at most 16 MiB; default 1 MiB

--- Collects events; what follows, an `each` or a plug-in sink, gets lists of them. Lists are worked on
--- one after the other.
---@param options jet.BatchOptions
---@return jet.Flow
function Flow:batch(options) end

---@class jet.RetryOptions
---@field tries? integer attempts in all, at most 1000; 0: no limit; default 8
---@field errors? boolean whether calls that end with an error are tried again, too; default: when `tries` is given
---@field min? jet.Duration the wait before the second attempt, at most; it doubles with each; default "1s"
---@field max? jet.Duration no wait is longer; default "5m"
---@field for? jet.Duration written ["for"], since Lua has the word to itself: no attempt later than that after the first; default: no limit

---@class jet.EachOptions
---@field workers? integer calls at once, at most 1000; default 1
---@field order? "did" | "total" | "none" what is worked on one after the other: the events of each account, all, or nothing; default "did". With "total" there is one worker
---@field timeout? jet.Duration of one call; default "60s"
---@field retry? jet.RetryOptions what happens to calls that run out of their time or ask for it with jet.retry
---@field queue? integer events read ahead, or waiting in memory, at most 1e6; default 1000
---@field full? "wait" | "drop_new" | "drop_old" "wait", the default: events wait in the journal until they are done. Otherwise they wait in memory, 64 MiB of them at most, and that goes when the queue is full; no event comes twice, and those that wait when the script ends are lost

--- Runs the function as a task, which may wait: for time, for HTTP, for a queue. The flow goes on
--- beside it. Each event comes at least once, also after a restart: it is done when the function has
--- returned. One whose function ends with an error becomes a dead letter (`moonjet ctl deliveries`);
--- one whose function is cut short, by its timeout, a reload or a crash, comes again under the same
--- `ev.id`. How far the function is, is kept under the script's and the node's name.
---@param work fun(ev: jet.Event | jet.Event[])
---@param options? jet.EachOptions
---@return jet.Flow
function Flow:each(work, options) end

--- Sends what arrives here to the sinks.
---@param ... jet.Sink
---@return jet.Flow
function Flow:to(...) end

-- # Events

--- An event, until the function it was given to returns; a task's event stays for as long as it is
--- used.
---@class jet.Event
---@field kind jet.Kind
---@field op jet.Op? commits only, like collection, rkey, rev, cid and uri
---@field did string
---@field collection string?
---@field rkey string?
---@field rev string?
---@field cid string? nil for a delete
---@field uri string? at://did/collection/rkey
---@field seq integer the upstream's
---@field time string the upstream's
---@field time_us integer Unix microseconds, ours
---@field record table? the record, read as a table is; nil for a delete
---@field text string record.text, or "" when there is none
---@field langs string[] record.langs, perhaps empty
---@field active boolean? account only
---@field status string? account only
---@field handle string? identity only
---@field id string? in an each: what this event is called there, the same each time it comes
local Event = {}

--- The value at a path of the record ("reply.root.uri", "embed.images[1].alt"), or the default.
---@param path string
---@param default? any
---@return any
function Event:get(path, default) end

--- Whether the record has something at the path; a null is something.
---@param path string
---@return boolean
function Event:has(path) end

--- Walks the list at the path; not at all when there is none.
---@param path string
---@return fun(): any
function Event:each(path) end

--- The record, or the part at the path, as tables that may be kept.
---@param path? string
---@return any
function Event:table(path) end

--- The integer at the path as text: Lua's numbers are not exact beyond 2^53.
---@param path string
---@return string?
function Event:int64(path) end

--- The event as subscribers get it.
---@return string
function Event:json() end

--- Whether the text holds one of the words, or which: a text is one word.
---@param words jet.Words | string
---@return string | false # the word as it was given to jet.words, or false
function Event:contains(words) end

--- The event as a value that may be kept beyond the call, in a variable, a queue or a task. Of a
--- draft: as it is now, no longer to be edited. Counts as the script's memory.
---@return jet.Event
function Event:keep() end

--- DIDs that the text mentions.
---@return fun(): string?
function Event:mentions() end

--- Addresses that the text links to.
---@return fun(): string?
function Event:links() end

--- Hashtags in the text, then those beside it.
---@return fun(): string?
function Event:tags() end

--- An event whose record may be edited: `draft.record.text = "…"`, `draft.record.langs = nil`.
---@class jet.Draft: jet.Event
local Draft = {}

--- Puts the value at the path of the record, and makes the maps on the way.
---@param path string
---@param value any
function Draft:set(path, value) end

--- Removes what is at the path of the record, if anything is.
---@param path string
function Draft:unset(path) end

--- Keeps the CID of the record as it came; an edited event otherwise goes without.
function Draft:keep_cid() end

--- A JSON null in a record. It is true in a condition, unlike nil.
---@type jet.Null
jet.null = nil

---@class jet.Null

--- Marks a table as a list, which an empty one cannot show by itself.
---@generic T: table
---@param t? T
---@return T
function jet.array(t) end

--- Marks a table as a map, which an empty one cannot show by itself.
---@generic T: table
---@param t? T
---@return T
function jet.object(t) end

-- # State

---@class jet.StateOptions
---@field max? integer entries; the least recently written go first; default 1e5, at most 1e8
---@field ttl? jet.Duration entries go that long after they were last written; default: never
---@field persist? boolean kept in DATA over restarts; default false

--- A map from texts to texts, numbers or booleans, kept in C: a million entries cost the collector
--- nothing. It belongs to the script and survives a reload. Keys have at most 4,096 bytes, texts
--- 65,536; numbers and booleans as keys are the texts that tostring makes of them. Top level only;
--- its methods work in functions.
---@param name string up to 64 letters, digits and _, no digit first
---@param options? jet.StateOptions
---@return jet.Map
function jet.map(name, options) end

---@class jet.Map
local Map = {}

--- The value, or the default (nil) when the key is not there or its time is over.
---@param key jet.Value
---@param default? any
---@return any
function Map:get(key, default) end

--- Puts the value; the entry written longest ago goes when the map is full.
---@param key jet.Value
---@param value jet.Value? nil removes
---@param ttl? jet.Duration instead of the map's
function Map:set(key, value, ttl) end

--- Adds to a number; a key that is not there counts as 0. That is a write, so its time begins anew.
---@param key jet.Value
---@param by? number default 1
---@return number # the new value
function Map:incr(key, by) end

--- Whether the key is there.
---@param key jet.Value
---@return boolean
function Map:has(key) end

--- Removes the key.
---@param key jet.Value
---@return boolean # whether it was there
function Map:remove(key) end

--- How many keys there are; some of them may be over already.
---@return integer
function Map:count() end

--- Walks all entries, in no order; entries may be changed meanwhile. Keys come as texts.
---@return fun(): string?, any
function Map:pairs() end

--- Removes all keys.
function Map:clear() end

---@class jet.SetOptions: jet.StateOptions
---@field file? string members, one a line, "#" starts a comment; in the script's folder; read again on reload

--- A named set of texts: shared by all scripts, usable in matches, edited live with `moonjet ctl
--- set`, and for subscribers `wantedDids=set:NAME`. A list instead of a name is a set of its own
--- that only this script sees. Top level only; its methods work in functions.
---@param name string | string[]
---@param options? string[] | jet.SetOptions first members, or options
---@return jet.Set
function jet.set(name, options) end

---@class jet.Set
local Set = {}

--- Adds the member.
---@param member string
---@return boolean # whether it is new
function Set:add(member) end

--- Whether it is a member.
---@param member string
---@return boolean
function Set:has(member) end

--- Removes the member.
---@param member string
---@return boolean # whether it was there
function Set:remove(member) end

--- How many members there are.
---@return integer
function Set:count() end

--- Walks all members, in no order; members may be changed meanwhile.
---@return fun(): string?
function Set:pairs() end

--- Removes all members.
function Set:clear() end

--- Keys in order of their scores. It belongs to the script and survives a reload.
---@param name string
---@param options? jet.StateOptions `max`: the lowest scores go first
---@return jet.Zset
function jet.zset(name, options) end

---@class jet.Zset
local Zset = {}

--- Gives the key that score.
---@param key jet.Value
---@param score number
function Zset:set(key, score) end

--- Adds to the key's score; one that is not there counts as 0.
---@param key jet.Value
---@param by? number default 1
---@return number # the new score
function Zset:incr(key, by) end

--- The score, or nil when the key is not there.
---@param key jet.Value
---@return number?
function Zset:score(key) end
--- 1 for the highest score.
---@param key jet.Value
---@return integer?
function Zset:rank(key) end

--- Removes the key.
---@param key jet.Value
---@return boolean # whether it was there
function Zset:remove(key) end
--- Highest first.
---@param n? integer default 10
---@param after? integer skip so many; default 0
---@return { key: string, score: number }[]
function Zset:top(n, after) end
--- Scores from `min` to `max`, lowest first.
---@param min number
---@param max number
---@param n? integer default 1000
---@return { key: string, score: number }[]
function Zset:range(min, max, n) end

--- How many keys there are.
---@return integer
function Zset:count() end

--- Removes all keys.
function Zset:clear() end

---@class jet.TopOptions
---@field k? integer how many are followed closely; default 100, at most 1000
---@field window? jet.Duration only what happened that recently, to a tenth of it; default: ever

--- The most frequent keys of a stream, in memory that does not grow with the keys.
---@param name string
---@param options? jet.TopOptions
---@return jet.Top
function jet.top(name, options) end

---@class jet.Top
local Top = {}

--- Counts the key once, or n times.
---@param key jet.Value
---@param n? integer default 1
function Top:add(key, n) end
--- Most frequent first. Counts may be too high by at most `error`.
---@param n? integer default 10
---@return { key: string, count: integer, error: integer }[]
function Top:list(n) end

--- Forgets everything.
function Top:clear() end

--- A counter among the metrics, as moonjet_script_NAME.
---@param name string up to 64 letters, digits and _, no digit first
---@param labels? string[] at most 8
---@return jet.Counter
function jet.counter(name, labels) end

---@class jet.Counter
local Counter = {}

--- One value per label, then how much to add: a whole number, 1 when left out.
---@param ... string | number | nil
function Counter:inc(...) end

--- A gauge among the metrics, as moonjet_script_NAME.
---@param name string up to 64 letters, digits and _, no digit first
---@param labels? string[] at most 8
---@return jet.Gauge
function jet.gauge(name, labels) end

---@class jet.Gauge
local Gauge = {}
--- One value per label, then the gauge's.
---@param ... string | number | nil
function Gauge:set(...) end
--- One value per label, then how much to add (1 when left out); may be negative.
---@param ... string | number | nil
function Gauge:add(...) end

-- # Tasks

--- Runs the function as a task again and again, so long after it has ended; the first time after
--- that long. At the top level, at most 1,000 times.
---@param interval jet.Duration
---@param fn fun()
function jet.every(interval, fn) end

--- Runs the function as a task, soon. At the top level: as soon as the script runs. A script has at
--- most 10,000 tasks at a time.
---@param fn fun(...: any)
---@param ... any
function jet.spawn(fn, ...) end

--- Waits. Tasks only, and not in a function that C calls (string.gsub, table.sort, a metamethod).
---@param duration jet.Duration
function jet.sleep(duration) end

--- A queue between tasks. Functions that look at events may put, too, since `put` does not wait
--- there.
---@param max? integer values, at most 1e6; default 1000
---@return jet.Queue
function jet.queue(max) end

---@class jet.Queue
local Queue = {}
--- In a task, waits for room; elsewhere returns false when there is none.
---@param value any not nil
---@return boolean
function Queue:put(value) end
--- Waits for a value; nil after the timeout. Tasks only.
---@param timeout? jet.Duration default: for ever; "0": does not wait
---@return any
function Queue:get(timeout) end

--- How many values wait.
---@return integer
function Queue:count() end

--- In an each: gives the event (behind a batch, the events) up for now; it comes again as its `retry`
--- says, and not before that time. Never returns: it raises an error, which a pcall around it must
--- raise again. Anywhere else it is an error like any other.
---@param reason string for the log and for `moonjet ctl deliveries`
---@param after? jet.Duration
function jet.retry(reason, after) end

--- Runs the function as a task before the script ends: on shutdown, and when a reload has put a newer
--- version in its place. Meanwhile what has begun may end, and what waits in memory is worked off;
--- all that has five seconds. At the top level, at most 1,000 times.
---@param fn fun()
function jet.on_stop(fn) end

---@class jet.HttpOptions
---@field headers? table<string, string | number> 64 KiB at most
---@field timeout? jet.Duration of everything together, waiting for a turn included; default "10s", at most "10m"
---@field max_bytes? integer of the answer, unpacked; default 1 MiB, at most 64 MiB

---@class jet.HttpRequest: jet.HttpOptions
---@field method? string default "GET"
---@field url string
---@field body? string | table a table is sent as JSON

---@class jet.HttpResponse
---@field status integer
---@field headers table<string, string> names in lower case; the values of one that comes again are put together with ", "
---@field body string

jet.http = {}

--- Requests an address and waits for the answer. Tasks only. Redirects are not followed, and private
--- addresses refused, unless the configuration allows them (`--http-allow`). An answer of any
--- status is an answer; nil and a message are for what went wrong before.
---@param url string
---@param options? jet.HttpOptions
---@return jet.HttpResponse?, string?
function jet.http.get(url, options) end

--- Sends the body and waits for the answer, as `jet.http.get` does. A text is sent as text/plain, a table as application/json, unless the
--- headers say otherwise.
---@param url string
---@param body string | table
---@param options? jet.HttpOptions
---@return jet.HttpResponse?, string?
function jet.http.post(url, body, options) end

--- Any method; otherwise as `jet.http.get`.
---@param request jet.HttpRequest
---@return jet.HttpResponse?, string?
function jet.http.request(request) end

---@class jet.Identity
---@field did string
---@field handle string? nil when the handle does not lead back to the DID
---@field pds string?
---@field key string? the signing key, did:key form
---@field labeler string? where its labels are, when it is a labeler
---@field label_key string? the key of its labels, did:key form

--- Who is behind a DID (did:plc, did:web) or handle, with the handle checked in both directions.
--- Answers are cached for an hour, failures for a minute (unless there were too many requests to
--- ask at all), and asked once for all who wait. Tasks only.
---@param did_or_handle string
---@return jet.Identity?, string?
function jet.resolve(did_or_handle) end

---@class jet.Request
---@field method string HEAD comes as "GET"
---@field path string decoded
---@field query table<string, string> decoded; of a key that comes again, the first value
---@field headers table<string, string> names in lower case
---@field body string at most 1 MiB
---@field peer string the client's address

--- Answers requests on the listener of the stream. The function is a task and has 30 seconds. It
--- returns a body (a text, or a table, which is sent as JSON), or a status, a body and headers, or
--- nothing (status 204). An error in it is a 500. Of several routes that fit, a whole path goes before
--- a prefix. Top level only.
---@param route string "GET /path", or POST, PUT, PATCH, DELETE; a last "*" behind a "/" takes what follows; "%20" is a blank, as in an address
---@param fn fun(request: jet.Request): (string | table | integer)?, (string | table)?, table<string, string | number>?
function jet.serve(route, fn) end

-- # Agents

---@alias jet.Priority "high" | "normal" | "low"

---@class jet.AgentOptions
---@field identifier string the account's handle or DID
---@field password string an app password: `jet.secret "BOT"`
---@field did? string the DID, where the identifier is a handle: then `me.did` is known from the start. Without it, the handle is looked up once, and the account is known by its DID from then on; needed when the handle has become another account's, which is meant
---@field service? string the PDS, as "https://pds.example.com"; without it, the one that the DID document names
---@field priority? jet.Priority of calls that say none; default "normal"

--- An account, by its app password. Declares only: it logs in with the first call. The session is
--- kept over reloads and, with --data, restarts, and refreshed before it is over, once for all calls
--- that wait. It logs in at most 3 times in 5 minutes and 10 times a day. Top level only; the
--- methods work in tasks.
---
--- Calls return what was answered, or nil, a message, the error's name and the HTTP status. In an
--- each, what might work later (no answer, 5xx, 429, a login that fails) is tried again for as long
--- as the task has time, and then handed to `jet.retry`, so that the event comes again. Rate limits
--- are kept: calls wait when what the service allows, or the account's points for writes (5,000 an
--- hour and 35,000 a day, unless the service says otherwise or counts nothing), run short.
---@param options jet.AgentOptions
---@return jet.Agent
function jet.agent(options) end

---@class jet.CallOptions
---@field headers? table<string, string | number> 64 KiB at most
---@field proxy? string the service behind the PDS that is meant, "did:web:api.bsky.chat#bsky_chat"
---@field timeout? jet.Duration of one request; default "10s", of `upload` "60s"
---@field max_bytes? integer of the answer; default 5 MiB
---@field priority? jet.Priority who goes first when a rate limit runs short: the last 25 % are not for "low", the last 5 % for "high" only
---@field type? string of a body of bytes; default "application/octet-stream"
---@field retry? boolean false: never tries again, also in an each

---@class jet.WriteOptions
---@field key? string what the action is called, where its number in the task is not the same each time; without an event, what is done only once
---@field event? jet.Event what it is about, outside of an each, or behind a batch: then it is done once per event and collection, unless `key` says otherwise
---@field rkey? string a record key instead of the one that is made up
---@field priority? jet.Priority as for other calls
---@field validate? boolean whether the PDS checks the record against its lexicon; default: when it knows it
---@field swap? string | false put, delete: only in place of the record with this CID; false: only when there is none
---@field timeout? jet.Duration of one request; default "10s"
---@field retry? boolean false: never tries again, also in an each

---@class jet.Written
---@field uri string
---@field cid string
---@field rkey string
---@field existed boolean? true: an earlier attempt had written it, perhaps with another text

---@class jet.Agent
---@field did string? known from the start when jet.agent was given it, or the session was kept; before, reading it at the top level is an error
---@field handle string?
---@field account jet.Set the set "agent:IDENTIFIER" with the DID in it, for matches: `mentions = me.account`. Filled as soon as the DID is known. Read it at the top level
local Agent = {}

--- Logs in, unless it has.
---@return string? # the DID
---@return string? # what went wrong
function Agent:login() end

--- Calls a method that asks.
---@param nsid string "app.bsky.actor.getProfile"
---@param params? table<string, jet.Value | jet.Value[]>
---@param options? jet.CallOptions
---@return any, string?, string?, integer? # the answer; or nil, message, error name, status
function Agent:get(nsid, params, options) end

--- Calls a method that does something.
---@param nsid string
---@param body? table | string a table is sent as JSON
---@param options? jet.CallOptions
---@return any, string?, string?, integer? # the answer; or nil, message, error name, status
function Agent:call(nsid, body, options) end

--- Creates a record, with `$type`, and in collections of app.bsky with a `createdAt`, if it has
--- none. In an each: once per event, however often the event comes, since the record's key comes
--- from the event, the account, the collection and the number of the write in the task (or `key`).
---@param collection string
---@param record table
---@param options? jet.WriteOptions
---@return jet.Written?, string?, string?, integer? # or nil, message, error name, status
function Agent:create(collection, record, options) end

--- Writes the record under that key, whether or not there is one.
---@param collection string
---@param rkey string
---@param record table
---@param options? jet.WriteOptions
---@return jet.Written?, string?, string?, integer? # or nil, message, error name, status
function Agent:put(collection, rkey, record, options) end

--- Deletes a record of the account's; that there is none is as good.
---@param uri string
---@param options? jet.WriteOptions
---@return true?, string?, string?, integer? # or nil, message, error name, status
function Agent:delete(uri, options) end

---@class jet.Write
---@field op "create" | "update" | "delete"
---@field collection? string
---@field rkey? string
---@field uri? string instead of collection and rkey
---@field record? table

--- Several writes at once: all of them, or none. In an each once per event, if the first that creates
--- something is there already.
---@param writes jet.Write[] 1 to 200
---@param options? jet.WriteOptions
---@return jet.Written[]?, string?, string?, integer? # or nil, message, error name, status
function Agent:apply(writes, options) end

--- Uploads bytes: the blob, to be put into a record as it is.
---@param bytes string
---@param media_type string "image/png"
---@param options? jet.CallOptions
---@return table?, string?, string?, integer? # the blob; or nil, message, error name, status
function Agent:upload(bytes, media_type, options) end

---@class jet.ListOptions
---@field limit? integer records at most; default: all
---@field page? integer records asked for at once, at most 100; default 100
---@field reverse? boolean oldest first
---@field repo? string another account on the same PDS
---@field priority? jet.Priority as for other calls

---@class jet.Record
---@field uri string
---@field cid string
---@field value table

--- Walks the records of a collection, newest first, page by page. What goes wrong is an error.
---@param collection string
---@param options? jet.ListOptions
---@return fun(): jet.Record?
function Agent:list(collection, options) end

--- A record of anybody's; that of another account without a login, from where it is kept.
---@param uri string
---@return jet.Record?, string?, string?, integer? # or nil, message, error name, status
function Agent:get_record(uri) end

--- Methods of a service, without an account; calls are as those of an agent.
---@param service string a host, or an address: "public.api.bsky.app"
---@return jet.Xrpc
function jet.xrpc(service) end

---@class jet.Xrpc
local Xrpc = {}

--- Calls a method that asks.
---@param nsid string
---@param params? table<string, jet.Value | jet.Value[]>
---@param options? jet.CallOptions
---@return any, string?, string?, integer? # the answer; or nil, message, error name, status
function Xrpc:get(nsid, params, options) end

--- Calls a method that does something.
---@param nsid string
---@param body? table | string a table is sent as JSON
---@param options? jet.CallOptions
---@return any, string?, string?, integer? # the answer; or nil, message, error name, status
function Xrpc:post(nsid, body, options) end

-- # Bots

---@alias jet.Reason "mention" | "reply" | "reply_root" | "quote" | "like" | "repost" | "follow" | "unlike" | "unrepost" | "unfollow"

---@class jet.OnOptions: jet.EachOptions
---@field limit? jet.Rate per account; what is too much is dropped
---@field manners? boolean false: the function also gets posts that the bot would not answer (`me:manners`)
---@field name? string of the flow; default "on_" and the reasons

--- Runs the function as a task for each event that has one of these reasons, once, whatever number of
--- them it has; never for the account's own. The events are found in C, by `me.account`.
---
--- "mention", "reply", "quote", "like", "repost" and "follow" are what they say; "reply_root" is a
--- reply anywhere in a thread that the account began. Deletes do not say what is deleted: "unlike",
--- "unrepost" and "unfollow" are known of what came while the script ran, the last 100,000; the
--- function then also gets the post, or the account, that was liked, reposted or followed. Top level
--- only.
---@param reasons jet.Reason | jet.Reason[]
---@param fn fun(ev: jet.Event, reasons: table<jet.Reason, true>, subject: string?) reasons is also a list
---@param options? jet.OnOptions `workers` is 4 if it does not say otherwise
---@return jet.Agent
function Agent:on(reasons, fn, options) end

--- `me:on("mention", fn, options)`. There is one of these for each reason.
---@param fn fun(ev: jet.Event, reasons: table<jet.Reason, true>)
---@param options? jet.OnOptions
---@return jet.Agent
function Agent:on_mention(fn, options) end

--- Every reason for which the event is the account's business: a list, with each as a key, too.
---@param ev jet.Event
---@return table<jet.Reason, true>
function Agent:reasons(ev) end

---@class jet.Manners
---@field stop? string[] | false words by which an account says that it wants no answers; default { "!stop" }
---@field start? string[] | false words that take that back; default { "!start" }
---@field cooldown? jet.Duration | false how long an account that says of itself that it is a bot waits for the next answer; default "1h"
---@field per_thread? integer | false answers to one account in one thread, in a day; default 20
---@field per_day? integer | false answers to one account in a day (UTC), all threads; default 250

--- What keeps a bot from being a nuisance, or talking to other bots for ever. Without it, the
--- defaults hold. Asked before functions of `on` run for posts (mention, reply, reply_root, quote; not
--- for likes, reposts, follows and their undoing), or of `on_dm` for messages, and by reply, quote and
--- thread, which return nil, a message, and "Own", "OptedOut" or "Cooldown"; kept over restarts. The
--- words are heard in all posts that mention the account or reply to it, before every limit, once the
--- script has `on`, `manners` or `me.account`. Top level only.
---@param options jet.Manners
---@return jet.Agent
function Agent:manners(options) end

--- Whether the account has said that it wants no answers.
---@param did string
---@return boolean
function Agent:opted_out(did) end

--- Puts the label "bot" into the account's profile, once: whoever removes it there is not overruled.
--- Top level only.
---@return jet.Agent
function Agent:label_self_as_bot() end

---@class jet.Image
---@field alt string what it shows; "" when there is nothing to say
---@field data? string its bytes: PNG, JPEG, GIF or WebP, at most 2,000,000
---@field url? string where it is
---@field blob? table what me:upload has returned
---@field aspect? { width: integer, height: integer } default: its own, but of a blob

---@class jet.Card
---@field uri string
---@field title? string
---@field description? string
---@field thumb? table a blob of at most 1,000,000 bytes

---@class jet.PostOptions
---@field langs? string | string[] at most 3
---@field images? jet.Image[] at most 4
---@field card? string | jet.Card a link card; of an address, as me:card makes it
---@field quote? jet.Event | jet.Written a post to quote; goes with images or a card
---@field tags? string[] hashtags beside the text, at most 8
---@field labels? string | string[] what the post says of itself: "porn", "graphic-media", "!no-unauthenticated"
---@field replies? "nobody" | ("mentioned" | "followers" | "following")[] who may reply; default: everybody. Not of a reply: it is for the post that begins a thread
---@field quotes? boolean false: nobody may quote it. Gates that are there already stay as they are
---@field key? string as for me:create
---@field priority? jet.Priority default "normal"; of replies and quotes "high"

---@class jet.Posted: jet.Written
---@field root { uri: string, cid: string }? of a reply: where its thread begins

--- Writes a post. A text is made rich text with its defaults (`jet.richtext`); one of more than 300
--- characters or 3,000 bytes is an error, and so is an image without alt text. In an each it is
--- written once, however often the event comes.
---@param text string | jet.RichText
---@param options? jet.PostOptions
---@return jet.Posted?, string?, string?, integer? # or nil, message, error name, status
function Agent:post(text, options) end

--- Writes a reply, in the thread of what it replies to, unless manners forbid. That is an event, what
--- me:post returned, or a record that was read (with its `value`, or the AppView's `record`), which
--- says where its thread begins.
---@param to jet.Event | jet.Posted | { uri: string, cid: string, value: table?, record: table? }
---@param text string | jet.RichText
---@param options? jet.PostOptions
---@return jet.Posted?, string?, string?, integer? # or nil, message, error name, status
function Agent:reply(to, text, options) end

--- Writes a post that quotes another, unless manners forbid.
---@param what jet.Event | jet.Posted
---@param text string | jet.RichText
---@param options? jet.PostOptions
---@return jet.Posted?, string?, string?, integer? # or nil, message, error name, status
function Agent:quote(what, text, options) end

---@class jet.ThreadOptions
---@field counters? boolean "1/3" at the end of each part, of a text that is split
---@field below? jet.Event | jet.Posted a post that the thread replies to
---@field langs? string | string[] of all parts, as labels
---@field labels? string | string[]
---@field replies? "nobody" | ("mentioned" | "followers" | "following")[] of the first; not with `below`
---@field quotes? boolean of the first
---@field key? string as for me:create
---@field priority? jet.Priority

--- Writes posts below each other: of a list, of texts or of tables with a `text` and what me:post
--- takes; or of one text, split where that is needed.
---@param parts string | jet.RichText | (string | jet.RichText | table)[] at most 100
---@param options? jet.ThreadOptions
---@return jet.Posted[]?, string?, string?, integer? # or nil, message, error name, status
function Agent:thread(parts, options) end

--- What a web page says of itself, with its picture uploaded, for `card`.
---@param url string
---@return jet.Card?, string?
function Agent:card(url) end

--- Likes a post.
---@param what jet.Event | jet.Posted
---@param options? { key?: string, priority?: jet.Priority } priority is "low" if it does not say otherwise
---@return jet.Written?, string?, string?, integer?
function Agent:like(what, options) end

--- Reposts a post.
---@param what jet.Event | jet.Posted
---@param options? { key?: string, priority?: jet.Priority } as for like
---@return jet.Written?, string?, string?, integer?
function Agent:repost(what, options) end

--- Follows an account.
---@param who string | jet.Event a DID, a handle, or the account of the event
---@param options? { key?: string, priority?: jet.Priority } as for like
---@return jet.Written?, string?, string?, integer?
function Agent:follow(who, options) end

--- Takes a like back: by its own address, or by the post's, which is looked for among the account's
--- last 3,000 likes. That there is none is as good; when there are more, and it is none of these, the
--- answer is nil and a message.
---@param what string | jet.Event | jet.Posted
---@return true?, string?, string?, integer?
function Agent:unlike(what) end

--- Takes a repost back, as unlike does.
---@param what string | jet.Event | jet.Posted
---@return true?, string?, string?, integer?
function Agent:unrepost(what) end

--- Takes a follow back, as unlike does: by its own address, or the account.
---@param who string | jet.Event
---@return true?, string?, string?, integer?
function Agent:unfollow(who) end

---@class jet.Message
---@field id string
---@field did string who sent it
---@field text string
---@field convo string the conversation
---@field sent_at string?
---@field facets table?

---@class jet.DmOptions
---@field every? jet.Duration default "15s"; longer while the chat service fails
---@field manners? boolean false: also messages that the bot would not answer
---@field service? string the chat service; default "did:web:api.bsky.chat#bsky_chat"

--- Runs the function for each direct message to the account that came since the script first ran,
--- one after the other, never for its own. It asks the chat service, which wants an app password
--- that allows direct messages. A message comes again only if Moonjet ends while the function runs.
--- Top level only.
---@param fn fun(message: jet.Message)
---@param options? jet.DmOptions
---@return jet.Agent
function Agent:on_dm(fn, options) end

--- Sends a direct message, of at most 1,000 characters. It is no record, so a retry may send it twice.
---@param to string | jet.Message a DID or a handle, or the message that it answers
---@param text string | jet.RichText
---@param options? { service?: string }
---@return any, string?, string?, integer? # the message; or nil, message, error name, status
function Agent:dm(to, text, options) end

-- # Rich text

---@class jet.RichTextOptions
---@field detect? boolean false: the text is taken as it is
---@field markdown? boolean reads `[our page](https://example.com)`; not for strangers' texts, who could hide where a link leads
---@field shorten? boolean shows less of long addresses

--- A text with its mentions, links and hashtags, as the network's apps find them. Without a text, an
--- empty one to add to.
---@param text? string | jet.RichText UTF-8
---@param options? jet.RichTextOptions
---@return jet.RichText
function jet.richtext(text, options) end

--- How many characters people see in the text: an emoji with all its parts is one. A post has at most
--- 300 of them, and 3,000 bytes.
---@param text string at most 1 MiB
---@return integer
function jet.graphemes(text) end

---@class jet.RichText
---@field text string
local RichText = {}

--- Adds a text, with what is found in it.
---@param text string | jet.RichText
---@param options? jet.RichTextOptions
---@return jet.RichText
function RichText:add(text, options) end

--- Adds a mention.
---@param shown string "@alice.example.com"
---@param who? string the DID or handle; default: what is shown
---@return jet.RichText
function RichText:mention(shown, who) end

--- Adds a link.
---@param shown string
---@param uri? string default: what is shown, which is then shortened
---@return jet.RichText
function RichText:link(shown, uri) end

--- Adds a hashtag.
---@param tag string with or without "#"
---@return jet.RichText
function RichText:tag(tag) end

--- How many characters people see.
---@return integer
function RichText:length() end

--- Whether it has at most so many characters, and no more bytes than go with them.
---@param max? integer default 300
---@return boolean
function RichText:fits(max) end

--- It, or as much of it as fits with a "…" behind, up to the end of a word.
---@param max? integer default 300
---@return jet.RichText
function RichText:truncate(max) end

--- Parts that fit: cut at the ends of words, never in a mention, link or hashtag. Of a link that is
--- longer than a part, less is shown.
---@param options? { max?: integer, counters?: boolean } max: default 300; counters: "1/3" at the end of each
---@return jet.RichText[]
function RichText:split(options) end

--- Looks up the DIDs of handles that are mentioned; who is not found is not mentioned, and is looked
--- up again the next time. me:post and the like do that themselves. Tasks only.
---@return jet.RichText
function RichText:resolve() end

--- The facets, for a record; nil when there are none.
---@return table[]?
function RichText:facets() end

-- # Feeds and labelers

---@class jet.FeedOptions
---@field keep? integer posts, the oldest go first; default 20000
---@field ttl? jet.Duration a post goes when it was neither added nor bumped for so long; default: never
---@field persist? boolean kept over restarts (--data); default false
---@field name? string of what is remembered; default: from the address
---@field hostname? string the name under which the world reaches Moonjet, which makes the feed generator `did:web:HOSTNAME`; its DID document is served, too
---@field did? string of the feed generator, when it is another one
---@field auth? "none" | "optional" | "required" whether to look at who asks, and to answer strangers; default "none", with `posts` "optional", where a token for another service or method counts as none
---@field posts? fun(request: jet.FeedRequest): (string | jet.FeedPost)[], string? what to answer instead of what was added: posts, and a cursor for the next page; a task

---@class jet.FeedRequest
---@field feed string its address
---@field viewer string? the DID of whoever asks, verified; nil for strangers
---@field limit integer how many posts, at most 100
---@field cursor string? what the last page ended with
---@field request jet.Request

---@class jet.FeedPost
---@field post string its address
---@field reason table? as the lexicon has it
---@field feedContext string? comes back with interactions

--- A feed: posts, newest first, for getFeedSkeleton. It answers the requests of Bluesky on the
--- listener of the stream, beside `jet.serve`; scripts may have several each, and share a host. A
--- list of addresses declares several at once, and returns as many. Top level only.
---@param uri string | string[] the address of the feed's record: at://did:plc:…/app.bsky.feed.generator/NAME
---@param options? jet.FeedOptions
---@return jet.Feed ...
function jet.feed(uri, options) end

---@class jet.Feed
local Feed = {}

--- Adds a post, or gives it another time.
---@param post string | jet.Event its address; of an event, its record and time
---@param time_us? number its place: microseconds, as ev.time_us; default: the event's, or now
---@param note? { repost?: string, pin?: boolean, context?: string } why it is there: the address of a repost, or pinned; `context` comes back with interactions
function Feed:add(post, time_us, note) end

--- Removes a post.
---@param post string
---@return boolean # whether it was there
function Feed:remove(post) end

--- Moves a post up, by as much as if it were newer by that time.
---@param post string
---@param duration jet.Duration
---@return boolean # whether it is there
function Feed:bump(post, duration) end

--- Whether the post is there.
---@param post string
---@return boolean
function Feed:has(post) end

--- How many posts there are.
---@return integer
function Feed:count() end

--- A page, as it is answered. The cursor names a place in the order: what is added meanwhile changes
--- nothing, and nothing comes twice.
---@param limit? integer default 50
---@param cursor? string
---@return jet.FeedPost[]?, string? # and the cursor of the next page, nil at the end; or nil and why the cursor is none
function Feed:list(limit, cursor) end

---@class jet.LabelerOptions
---@field did? string the labeler's; default: `did:web:HOSTNAME`
---@field hostname? string the name under which the world reaches Moonjet; the DID document of its did:web is served, too
---@field key string its private key: `jet.secret "LABEL_KEY"`, as 64 hex digits (K-256) or multibase (K-256, P-256)
---@field policies? string[] | { labelValues: string[] } the labels it uses: any other is an error then
---@field seq? integer the next label gets that number at least: for a labeler that has moved here

--- A labeler: labels are signed, kept in --data for ever, and served by subscribeLabels and
--- queryLabels on the listener of the stream. Top level only.
---@param options jet.LabelerOptions
---@return jet.Labeler
function jet.labeler(options) end

---@class jet.Labeler
local Labeler = {}

--- Labels a record or an account. What is in force already is not said again, and a label for a
--- duration is renewed when half of that is over.
---@param subject string | jet.Event an at:// address or a DID; of an event, its record
---@param val string
---@param more? { cid?: string, exp?: string } that version of the record only; a duration, or the datetime when it ends
function Labeler:apply(subject, val, more) end

--- Takes a label back; of all versions, unless one is named.
---@param subject string | jet.Event
---@param val string
---@param more? { cid?: string }
function Labeler:negate(subject, val, more) end

--- Labels in force, as they were written to disk a moment ago.
---@param subject string | jet.Event an address or DID, or the beginning of some with a "*" behind it
---@param n? integer default 100, at most 1000
---@return { uri: string, val: string, cts: string, src: string, cid: string?, exp: string? }[]
function Labeler:list(subject, n) end

--- The public key, did:key form, that the DID document has to name as #atproto_label.
---@return string
function Labeler:key() end

-- # Everything else

--- What the configuration, or --config KEY=VALUE, said; a key that was not given is nil.
---@type table<string, any>
jet.config = {}

--- A secret the configuration grants: MOONJET_SECRET_NAME in the environment, a file NAME in
--- --secrets DIR, or a systemd credential. Without it, loading fails.
---@param name string
---@return string
function jet.secret(name) end

--- The time as records write it: "2026-07-04T14:38:08.123456Z".
---@return string
function jet.now() end

--- Unix seconds, with fractions.
---@return number
function jet.time() end

jet.json = {}

--- Lua values as JSON, maps in order of their keys; as in records, an empty table is marked by
--- jet.array or jet.object. Numbers may have fractions. At most 16 MiB and 64 levels.
---@param value any
---@return string
function jet.json.encode(value) end

--- JSON as Lua values; null is jet.null. Or nil and what is wrong: "',' or ']' is expected, at byte 9".
---@param text string
---@return any, string?
function jet.json.decode(text) end

---@class jet.Log
jet.log = {}

--- Logs a line at the level that `--log-level debug` shows.
---@param text string
---@param ... any as for string.format
function jet.log.debug(text, ...) end

--- Logs a line.
---@param text string
---@param ... any as for string.format
function jet.log.info(text, ...) end

--- Logs a warning.
---@param text string
---@param ... any as for string.format
function jet.log.warn(text, ...) end

--- Logs an error.
---@param text string
---@param ... any as for string.format
function jet.log.error(text, ...) end

-- # Specs

--- Loads a script for a spec, into the real VM with the real limits; only files that `moonjet test`
--- runs have it. What the script sends is captured; its clock stands still at the start of 2026 until
--- `advance`; jet.now and jet.time of the spec show it, too. It ends with the `it` it was loaded in or for; one loaded in a `setup` or outside of
--- both serves several. Metrics, state and streams begin empty.
---@param script string the script's file name, with or without .lua, beside the spec
---@param options? { config?: table<string, any>, secrets?: table<string, string> } what the script reads as jet.config and jet.secret
---@return jet.Test
function jet.test(script, options) end

--- A script on the bench: what happens to it, and what came of that.
---@class jet.Test
local Test = {}

--- A made-up post: fields of the record, over `text = ""`, `createdAt` and `$type`. It goes through
--- the script's flows, and tasks run until all of them wait.
---@param record table
---@param event? table did, rkey, op and other fields, as for `event`
---@return table # the event as sent, with the fields of jet.Event
function Test:post(record, event) end

--- A made-up event of any kind: `{ collection =, record =, op =, did = }`, `{ kind = "identity" }`.
--- What is left out is made up: the same DID for all, rkeys and revs that grow, the CID that belongs
--- to the record, and in the record the rest of `{ ["$type"] = "blob" }`.
---@param event table
---@return table # the event as sent, with the fields of jet.Event
function Test:event(event) end

--- Sends recorded events: a capture, or Jetstream JSON lines.
---@param file string beside the spec
---@return integer # how many there were
function Test:replay(file) end

--- What arrived in a stream (or "main") since the last call, as tables with the fields of jet.Event.
---@param stream string
---@return table[]
function Test:out(stream) end

--- What jet.print wrote since the last call, as tables with the fields of jet.Event.
---@return table[]
function Test:printed() end

--- Moves the clock on and runs what is due, each at its time.
---@param duration jet.Duration
function Test:advance(duration) end

--- The time on the script's clock, as jet.now gives it.
---@return string
function Test:now() end

--- Answers the script's HTTP requests from now on: the function gets the request and returns a
--- response (a table as body is sent as JSON; status 200 when there is none), or nil and what went
--- wrong. Without it, every request fails.
---@param fn fun(request: jet.HttpRequest): { status?: integer, body?: string | table, headers?: table<string, string> } | nil, string?
function Test:http(fn) end

--- Answers the script's `jet.resolve`: the function gets the DID or handle and returns what is known
--- of it, or nil and a message.
---@param fn fun(who: string): jet.Identity | nil, string?
function Test:resolve(fn) end

---@class jet.TestPdsOptions
---@field did? string default "did:plc:botbotbotbotbotbotbotbot"
---@field handle? string default "bot.test"
---@field password? string default: any is right
---@field service? string default "https://pds.test"
---@field lifetime? integer seconds that an access token lasts; default 7200
---@field people? table<string, string> handles and DIDs of others
---@field http? fun(request: jet.HttpRequest): table | nil, string? answers what is no request to the PDS

--- A PDS with one account, for scripts with an agent: answers their HTTP requests and look-ups from
--- now on, and keeps what they write.
---@param options? jet.TestPdsOptions
---@return jet.TestPds
function Test:pds(options) end

---@class jet.TestPds
---@field did string
---@field handle string
local TestPds = {}

--- What the account's collection holds, as { uri, cid, collection, rkey, value }, in the order in
--- which it was created.
---@param collection? string default: all
---@return table[]
function TestPds:list(collection) end

--- Names of the methods that were called since the last call.
---@return string[]
function TestPds:calls() end

--- Answers a method from now on: the function gets the parameters or the body, and the request; it
--- returns a response.
---@param nsid string
---@param fn fun(input: any, request: jet.HttpRequest): table
function TestPds:serve(nsid, fn) end

---@class jet.TestFailure
---@field method? string default: any
---@field times? integer default 1
---@field status? integer default 500
---@field body? table
---@field headers? table<string, string>
---@field unanswered? string no answer comes, with that message
---@field lost? boolean the request is carried out, and its answer does not come

--- The next requests fail.
---@param failure jet.TestFailure
function TestPds:fail(failure) end

--- No request fails any more.
function TestPds:ok() end

--- Access tokens given so far are over.
---@param all? boolean refresh tokens, too
function TestPds:expire(all) end

--- A named set, as `moonjet ctl set` edits it; made when there is none.
---@param name string
---@return jet.Set
function Test:set(name) end

--- Requests the script has sent, since the last call.
---@return jet.HttpRequest[]
function Test:requests() end

--- Asks one of the script's routes; a table as body is sent as JSON. Where the route waits for time,
--- the clock goes on until it has answered. Header names of the answer are in lower case. OPTIONS, a
--- method that the path does not have (405), and HEAD are answered as the server does.
---@param method string
---@param path string with a query, if any
---@param body? string | table
---@param headers? table<string, string>
---@return { status: integer, body: string, headers: table<string, string> }
function Test:ask(method, path, body, headers) end

--- What a plug-in sink got since the last call, as tables with the fields of jet.Event.
---@param plugin string
---@return table[]
function Test:sunk(plugin) end

--- What webhooks would have posted since the last call, of one node or of all; `data` is the body when
--- it is JSON. Nothing is signed or sent.
---@param node? string "webhook#1", or the webhook's name
---@return { node: string, url: string, id: string, type: string, body: string, data: any, events: integer }[]
function Test:webhooks(node) end

--- Log lines since the last call.
---@return { level: string, text: string }[]
function Test:logs() end

--- A metric's value, as moonjet_script_NAME or any other, with labels as `a="b"`: the sum of what has
--- all of them; 0 when there is none.
---@param name string
---@param labels? string
---@return number
function Test:metric(name, labels) end

--- Errors of the script's functions since the last call. One that a spec has not asked for fails it.
---@return string[]
function Test:errors() end

--- Reloads the script as a running Moonjet would: state stays, locals begin anew, what it gave
--- jet.on_stop runs.
---@return boolean?, string? # true; or nil and why it does not load: then the one that runs goes on
function Test:reload() end

--- Ends the script as a running Moonjet would: what it gave jet.on_stop runs, the clock going on
--- until that is done.
function Test:stop() end
