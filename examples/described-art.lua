-- described-art.lua: posts with pictures whose every picture has an alt text.

local jet = require "moonjet"

-- `reply = false` are roots only; `has` asks for something in the record. C decides both.
jet.from {
  collection = "app.bsky.feed.post", op = "create", reply = false, has = "embed.images",
}
  :where(function(ev)
    for image in ev:each "embed.images" do
      if (image.alt or "") == "" then
        return false
      end
    end
    return true
  end)
  :as "all-described"
  :to(jet.stream "described-art")
