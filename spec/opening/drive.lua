-- Runs an opening machine over bytes that are cut in a given way, and writes its events down as text, so that runs
-- over different cuts can be compared.

local assert = require "luassert"

local drive = {}

local function text_of(value, seen)
  if type(value) ~= "table" then
    return type(value) == "string" and ("%q"):format(value) or tostring(value)
  elseif seen[value] then
    return "(again)"
  end
  seen[value] = true
  local keys, out = {}, {}
  for key in next, value do
    keys[#keys + 1] = key
  end
  table.sort(keys, function(a, b)
    return type(a) == type(b) and a < b or type(a) < type(b)
  end)
  for i, key in ipairs(keys) do
    out[i] = tostring(key) .. "=" .. text_of(value[key], seen)
  end
  seen[value] = nil
  return "{" .. table.concat(out, " ") .. "}"
end

local function note(events, name, ...)
  local event = { name, ... }
  event.n = select("#", ...) + 1
  events[#events + 1] = event
  return name ~= nil
end

--- Polls all events there are into the list; on_event sees each.
function drive.collect(machine, events, on_event)
  events = events or {}
  while note(events, machine:poll()) do
    if on_event then
      on_event(machine, events[#events])
    end
  end
  events[#events] = nil
  return events
end

--- Feeds the pieces; bytes after the opening go to `rest` of the open event, as a driver would pass them on.
function drive.run(machine, pieces, on_event)
  local events = drive.collect(machine, {}, on_event)
  for _, piece in ipairs(pieces) do
    if machine.state == "open" then
      local last = events[#events]
      last[2].rest = last[2].rest .. piece
    else
      machine:feed(piece)
      drive.collect(machine, events, on_event)
    end
  end
  return events
end

--- The events as one text.
function drive.describe(events)
  local out = {}
  for i, event in ipairs(events) do
    local parts = {}
    for j = 1, event.n do
      if event[j] ~= nil then
        parts[#parts + 1] = text_of(event[j], {})
      end
    end
    out[i] = table.concat(parts, " ")
  end
  return table.concat(out, "\n")
end

--- Runs `make()`'s machines over the bytes whole, byte by byte, and cut in two at every place; the events must be
--- the same each time. Returns those of the whole run.
function drive.everywhere(make, bytes, on_event)
  local events = drive.run(make(), { bytes }, on_event)
  local expected = drive.describe(events)
  local single = {}
  for i = 1, #bytes do
    single[i] = bytes:sub(i, i)
  end
  assert.equal(expected, drive.describe(drive.run(make(), single, on_event)))
  for i = 1, #bytes - 1 do
    local got = drive.describe(drive.run(make(), { bytes:sub(1, i), bytes:sub(i + 1) }, on_event))
    if got ~= expected then
      assert.equal(expected, got, "cut after byte " .. i)
    end
  end
  return events
end

--- Variants of a message with bytes changed, dropped and doubled, the same ones each time; calls f with each.
function drive.mutations(bytes, count, f)
  local state = 20261122
  local function random(n)
    state = (state * 16807) % 2147483647
    return state % n + 1
  end
  local spice = { "\r\n", "\n", "\r", "\0", " ", "\t", ",", ":", ";", "=", "\"", "\255", "0", "Upgrade", "\r\n\r\n" }
  for _ = 1, count do
    local text = bytes
    for _ = 1, random(3) do
      local at, what = random(#text), random(4)
      local insert = what == 1 and spice[random(#spice)] or what == 2 and string.char(random(256) - 1)
        or what == 3 and "" or text:sub(at, at + random(40))
      text = text:sub(1, at - 1) .. insert .. text:sub(at + (what == 4 and 0 or 1))
    end
    f(text, random(#text))
  end
end

return drive
