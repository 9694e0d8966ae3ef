#!/usr/bin/env python3
"""Writes the seeds of the cbor, car, frame and syntax fuzz targets: small, made up here, and each
one a shape that a mutation would not find soon. Run from anywhere; files are only overwritten."""
import base64
import hashlib
import json
import os

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "corpus")


def head(major, n):
    for info, size in ((None, 0), (24, 1), (25, 2), (26, 4), (27, 8)):
        if info is None and n < 24:
            return bytes([major << 5 | n])
        if info is not None and n < 1 << 8 * size:
            return bytes([major << 5 | info]) + n.to_bytes(size, "big")


class Link(bytes):
    pass


def cbor(v):
    if v is None:
        return b"\xf6"
    if v is False or v is True:
        return b"\xf5" if v else b"\xf4"
    if isinstance(v, int):
        return head(0, v) if v >= 0 else head(1, -1 - v)
    if isinstance(v, Link):
        return b"\xd8\x2a" + head(2, len(v) + 1) + b"\0" + v
    if isinstance(v, bytes):
        return head(2, len(v)) + v
    if isinstance(v, str):
        return head(3, len(v.encode())) + v.encode()
    if isinstance(v, list):
        return head(4, len(v)) + b"".join(map(cbor, v))
    items = sorted((k.encode(), x) for k, x in v.items())
    items.sort(key=lambda i: len(i[0]))
    return head(5, len(items)) + b"".join(head(3, len(k)) + k + cbor(x) for k, x in items)


def cid(block, codec=0x71):
    return Link(bytes([1, codec, 0x12, 0x20]) + hashlib.sha256(block).digest())


def varint(n):
    out = b""
    while n >= 0x80:
        out += bytes([n & 0x7F | 0x80])
        n >>= 7
    return out + bytes([n])


def section(block, name=None):
    name = cid(block) if name is None else name
    return varint(len(name) + len(block)) + name + block


def car(root, *sections):
    h = cbor({"roots": [root], "version": 1})
    return varint(len(h)) + h + b"".join(sections)


def write(target, name, data):
    folder = os.path.join(HERE, target)
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, name), "wb") as f:
        f.write(data)


DID = "did:plc:" + "a" * 24
TIME = "2026-01-02T03:04:05.678Z"
REV = "3jzfcijpj2z2a"
BLOB = {"$type": "blob", "ref": cid(b"picture", 0x55), "mimeType": "image/png", "size": 12345}
RECORDS = {
    "post": {"$type": "app.example.post", "text": "hello \u00e9 \U0001f600 <&> \u2028", "langs": ["en"],
             "createdAt": TIME, "embed": {"images": [{"alt": "", "image": BLOB}]}},
    "like": {"$type": "app.example.like", "createdAt": TIME,
             "subject": {"uri": "at://" + DID + "/app.example.post/self", "cid": "bafy"}},
    "numbers": {"a": 0, "b": -1, "c": 2**53 + 1, "d": 2**63 - 1, "e": -2**63, "f": True, "g": None},
    "bytes": {"b": b"", "c": b"\x01", "d": b"\x01\x02", "e": b"\x01\x02\x03"},
    "order": {"a": 1, "a b": 2, "a!": 3, "&k": 4, "Z": 5, "_": 6, "bb": 7, "\n": 8},
    "legacy": {"image": {"cid": "bafkreiccldh766hwcnuxnf2wh6jgzepf2nlu2lvcllt63eww5p6chi4ity",
                         "mimeType": "image/jpeg"}},
    "literal": {"l": {"$link": "bafkreiccldh766hwcnuxnf2wh6jgzepf2nlu2lvcllt63eww5p6chi4ity"},
                "b": {"$bytes": "AAEC"}},
    "nested": {"a": [[[[{"b": [{}]}]]], []]},
    "wide": {"k%02d" % (99 - i): i for i in range(40)},
    "controls": {"text": "".join(map(chr, range(0x20))) + "\"\\/\x7f"},
}


def commit_frame(ops, blocks, **extra):
    block = cbor({"did": DID, "rev": REV, "version": 3, "data": cid(b"tree"), "prev": None, "sig": b"s" * 64})
    body = {"seq": 7, "repo": DID, "rev": REV, "time": TIME, "since": None, "commit": cid(block),
            "ops": ops, "blobs": [], "tooBig": False, "rebase": False,
            "blocks": car(cid(block), *[section(b) for b in blocks], section(block))}
    body.update(extra)
    return cbor({"op": 1, "t": "#commit"}) + cbor(body)


def op(action, path, block=None):
    return {"action": action, "path": path, "cid": None if block is None else cid(block)}


for name, record in RECORDS.items():
    block = cbor(record)
    write("cbor", name, block)
    if name in ("post", "order", "legacy"):
        write("frame", name, commit_frame([op("create", "app.example.post/self", block)], [block]))
write("cbor", "float", b"\xa1\x61a\xfb\x3f\xf8" + bytes(6))
write("cbor", "indefinite", b"\xbf\xff")

a, b = cbor(RECORDS["like"]), cbor(RECORDS["numbers"])
write("frame", "three", commit_frame([op("create", "app.example.like/a", a), op("update", "app.example.num/b", b),
                                      op("delete", "app.example.like/c")], [a, b]))
write("frame", "dropped", commit_frame([op("create", "bad path", a), op("move", "app.example.like/b", a),
                                        op("create", "app.example.like/c", b"absent")], [a]))
base = {"seq": 8, "did": DID, "time": TIME}
for name, t, more in (("identity", "#identity", {"handle": "user.example.com"}),
                      ("account", "#account", {"active": False, "status": "takendown"}),
                      ("sync", "#sync", {"rev": REV, "blocks": car(cid(b"c"), section(b"c"))}),
                      ("info", "#info", {"name": "OutdatedCursor", "message": "old"}),
                      ("unknown", "#later", {"x": [1, {"y": None}]})):
    write("frame", name, cbor({"op": 1, "t": t}) + cbor({**base, **more}))
write("frame", "error", cbor({"op": -1}) + cbor({"error": "FutureCursor", "message": "x"}))

write("car", "small", car(cid(b"a"), section(b"a"), section(b"b" * 200), section(b"")))
write("car", "foreign", car(cid(b"a"), section(b"data", bytes([1, 0xB0, 2, 0x1E, 4]) + b"hash"), section(b"a")))
write("car", "blob", car(cid(b"a", 0x55), section(b"x" * 20000, cid(b"x" * 20000, 0x55))))

text = base64.b32encode(cid(b"a")).decode().lower().rstrip("=")
for i, s in enumerate([DID, "did:web:example.com%3A80", "user.example.com", "app.example.feed.postV2",
                       "app.example.feed.post/3jzfc:ijpj2z2a~", REV, "at://" + DID + "/app.example.post/self",
                       "at://user.example.com", TIME, "0000-01-01T00:00:00.12345678901234567890+14:59",
                       "2024-02-29T23:59:59-00:01", "b" + text, "z\u00e9\u2028\U0001f600"]):
    write("syntax", "%02d" % i, s.encode())


def data_model(v):
    if isinstance(v, Link):
        return {"$link": "b" + base64.b32encode(v).decode().lower().rstrip("=")}
    if isinstance(v, bytes):
        return {"$bytes": base64.b64encode(v).decode().rstrip("=")}
    if isinstance(v, list):
        return [data_model(x) for x in v]
    return {k: data_model(x) for k, x in v.items()} if isinstance(v, dict) else v


def event(kind, body):
    return json.dumps({"did": DID, "time_us": 1767323045678000, "kind": kind, kind: body}).encode()


for name, record in RECORDS.items():
    body = {"rev": REV, "operation": "create", "collection": "app.example.post", "rkey": "self",
            "record": data_model(record), "cid": data_model(cid(cbor(record)))["$link"]}
    write("from_json", name, event("commit", body))
    write("from_json", name + "-value", json.dumps(data_model(record), ensure_ascii=False).encode())
    write("from_json", name + "-cbor", cbor(record))
write("from_json", "delete", event("commit", {"rev": REV, "operation": "delete", "collection": "app.example.post",
                                              "rkey": "self"}))
write("from_json", "identity", event("identity", {"did": DID, "handle": "user.example.com", "seq": 8, "time": TIME}))
write("from_json", "account", event("account", {"active": False, "did": DID, "seq": 9, "status": "takendown",
                                                "time": TIME}))
write("from_json", "numbers-wrong", b"[1.5,1e3,-0,01,9223372036854775808,-9223372036854775808]")
write("from_json", "padded", b'{"a":{"$bytes":"AQ=="},"b":{"$bytes":"AR"},"c":{"$link":"bafkqaaa"}}')
# paths, an empty line, the record they are looked up in
for name, record, paths in (
        ("post", RECORDS["post"], ["text", "embed.images[1].alt", "langs.1", "embed.images", "gone.away"]),
        ("like", RECORDS["like"], ["subject.uri", "subject"]),
        ("nested", RECORDS["nested"], ["a", "a[1][1]", "a.1.1.1.1.b"]),
        ("keys", RECORDS["order"], ["a b", "_", "bb", "Z.x"])):
    write("operator", name, "\n".join(paths).encode() + b"\n\n" + cbor(record))

for name, s in (("moon", "moon\nnew york\nlua*\n*moon*\n\nThe Moon over New  York; moonlit"),
                ("folding", "σίσυφος\nстраны\n\nΣΊΣΥΦΟΣ СТРАНЫ \u212aelvin \U00010400 Ǆ"),
                ("unspaced", "満月\nแมว\n\n今夜は満月だ ชอบแมวมาก กิน"),
                ("ignored", "moon\n❤\n👍\n\nmo\u00adon mo\u200bon ❤\ufe0f 👍🏽 cafe\u0301 don\u2019t"),
                ("nested", "a\naa\naaa\n*aa*\naa aa\n\naaaa aa aa aaa"),
                ("bad", "*\n**\na*b\n a *\n\n")):
    write("words", name, s.encode())
write("words", "broken", b"a\n\xff\n\na\xffa \xe2\x82 a\xf0\x9f\x98")

URI = "at://" + DID + "/app.bsky.feed.post/self"
FACET = "app.bsky.richtext.facet#"
for name, record in (
        ("post", {"text": "a moon", "langs": ["pt-BR", "a"], "tags": ["Moon", "#a"], "facets": [{"features": [
            {"$type": FACET + "mention", "did": DID}, {"$type": FACET + "tag", "tag": "a"},
            {"$type": FACET + "link", "uri": "https://u@www.Example.com.:80/x"}]}],
            "reply": {"parent": {"uri": URI}, "root": {"uri": DID}}}),
        ("beside", {"text": "b c", "embed": {"record": {"record": {"uri": URI}}, "media": {
            "images": [{"alt": "moon"}, {"alt": 1}], "external": {"uri": "http://[::1]:8/", "title": "a",
                                                                  "description": "#a"}}}}),
        ("quote", {"embed": {"record": {"uri": "at://", "record": cid(b"x")}, "alt": "月"}, "cid": b"\0"}),
        ("subject", {"subject": {"uri": URI}, "a": {"b": [0, 1, {"c": "bb"}]}}),
        ("follow", {"subject": DID, "text": ""}),
        ("hostile", {"text": [], "langs": {"a": 1}, "tags": "a", "facets": [1, {"features": [[], {"$type": 5}]}],
                     "reply": None, "embed": [], "subject": 7}),
        ("labels", {"langs": ["a-" * 31 + "a"], "facets": [{"features": [
            {"$type": FACET + "link", "uri": "x://" + "a." * 126 + "b"}]}]})):
    write("facts", name, b"\0" + cbor(record))
for i, text in enumerate([
        '{"a":[1,-2.5,1e300,true,false,null,{}],"":"","b":{"c":[[]]}}', '"\\u00e9\\ud83c\\udf19\\n\\"\\\\\\/"',
        ' [ 0 , -0 , 0.1 , 12345678901234567890 ] ', "[" * 63 + "]" * 63, '{"a":1,"a":2}', '"\\ud800"', "[1,]", "1e999",
        '"\u00e9\u2028\U0001f600"']):
    write("json_lua", "%02d" % i, text.encode())

write("ctl", "status", json.dumps({"ok": True, "version": "1", "journal": {"floor": 1, "deep": {"x": None}}, "sources": [
    {"url": "wss://example.com", "connected": True, "seq": 5}, {"url": "\u001b[31m\u202e", "seq": 17, "more": [1]}]}).encode())
write("ctl", "text", json.dumps({"ok": True, "text": "one\n  two\n"}).encode())
write("ctl", "members", b'{"members":["b","a"],"empty":[],"lists":[[1,[2]],{"a":[{"b":1}]}]}')
write("ctl", "metrics", b"# HELP x y\nmoonjet_events_total 100\njetstream_subscribers_connected{stream=\"main\"} 3\n"
      b"moonjet_node_events_in_total{script=\"a.lua\",node=\"from#1\"} 10\n"
      b"moonjet_node_nanoseconds_total{script=\"a\\\"b\",node=\"w\\n\"} 1e9\nx{a=\"\\\n")
