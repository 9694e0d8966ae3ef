---@meta
--- Types of Moonjet's script surface, for language servers that know LuaCATS annotations. Point
--- yours at this folder (lua-language-server: `workspace.library`). Nothing here is ever run;
--- docs/scripting.md tells what the words mean.

---@class jet
jet = {}

--- What --config KEY=VALUE said. Values are text; a key that was not given is nil.
---@type table<string, string>
jet.config = {}

--- A JSON null in a record. It is true in a condition, unlike nil.
---@type jet.Null
jet.null = nil

---@class jet.Null

---@alias jet.Kind "commit" | "identity" | "account"
---@alias jet.Op "create" | "update" | "delete"

--- A value of a match key: a text, a list of which one must fit, or a wrapped one.
---@alias jet.MatchValue string | jet.MatchValue[] | jet.Wrapped

---@class jet.Wrapped

---@class jet.MatchTable
---@field kind? jet.Kind | jet.Kind[] | jet.Wrapped
---@field collection? jet.MatchValue an NSID, or `app.bsky.*`
---@field op? jet.Op | jet.Op[] | jet.Wrapped
---@field did? jet.MatchValue

--- "app.bsky.feed.post:create", "app.bsky.graph.*", "*:delete", "#identity", "*"; a table whose
--- keys must all fit; or a list of which one must.
---@alias jet.Match string | jet.MatchTable | jet.Match[] | jet.Wrapped

--- Opens a flow of the events that match, each as it came from the network.
---@param match jet.Match
---@return jet.Flow
function jet.from(match) end

--- The main stream: what /subscribe serves. Operators narrow or rewrite it, one after the other,
--- and after those of the scripts loaded before.
---@return jet.Flow
function jet.main() end

--- A stream of its own, served at /stream/NAME/subscribe. Flows and scripts may share one.
---@param name string 1 to 64 of a-z 0-9 . _ -
---@return jet.Sink
function jet.stream(name) end

--- Events as JSON lines on stdout.
---@return jet.Sink
function jet.print() end

--- What `x` does not match. Behind a key, the event must have that field.
---@param x jet.Match | jet.MatchValue
---@return jet.Wrapped
function jet.no(x) end

--- What at least one of the list matches.
---@param list (jet.Match | jet.MatchValue)[]
---@return jet.Wrapped
function jet.any(list) end

--- Values that start with `s`; behind `collection` or `did`.
---@param s string
---@return jet.Wrapped
function jet.prefix(s) end

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

--- The time as records write it: "2026-07-04T14:38:08.123456Z".
---@return string
function jet.now() end

--- A counter among the metrics, as moonjet_script_NAME.
---@param name string letters, digits and _
---@param labels? string[] at most 8
---@return jet.Counter
function jet.counter(name, labels) end

---@class jet.Log
jet.log = {}

---@param text string
---@param ... any as for string.format
function jet.log.debug(text, ...) end

---@param text string
---@param ... any as for string.format
function jet.log.info(text, ...) end

---@param text string
---@param ... any as for string.format
function jet.log.warn(text, ...) end

---@param text string
---@param ... any as for string.format
function jet.log.error(text, ...) end

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

--- Names the last node, for logs and metrics.
---@param name string
---@return jet.Flow
function Flow:as(name) end

--- Sends what arrives here to the sinks.
---@param ... jet.Sink
---@return jet.Flow
function Flow:to(...) end

--- An event, until the function it was given to returns.
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
local Event = {}

--- The value at a path of the record ("reply.root.uri", "embed.images[1].alt"), or the default.
---@param path string
---@param default? any
---@return any
function Event:get(path, default) end

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

---@param path string
---@param value any
function Draft:set(path, value) end

---@param path string
function Draft:unset(path) end

--- Keeps the CID of the record as it came; an edited event otherwise goes without.
function Draft:keep_cid() end

---@class jet.Counter
local Counter = {}

--- One value per label, then how much to add (1 when left out).
---@param ... string | number | nil
function Counter:inc(...) end
