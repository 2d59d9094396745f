-- The TCP connections in a file of captured packets, as tshark puts them together. One pass finds those that are wanted
-- by how they begin, another puts together what they carry. This file must not know what that is.

local pcap = {}

local char, concat, find, gsub, lower, match, sub, upper = string.char, table.concat, string.find, string.gsub,
  string.lower, string.match, string.sub, string.upper

-- Of each direction, so many bytes are its beginning.
local BEGINNING = 1024

-- So many connections are put together in one pass, and held in memory.
local MOST_AT_ONCE = 128

local function quote(word)
  return "'" .. gsub(word, "'", "'\\''") .. "'"
end

local bytes_by_digits = {}
for i = 0, 255 do
  bytes_by_digits[("%02x"):format(i)] = char(i)
end

local function unhex(digits)
  return (gsub(digits, "%x%x", bytes_by_digits))
end

-- Calls take(line) for each line that tshark prints. Returns what it complains of, where it could not read all; what it
-- has printed by then is good. The shell keeps the complaints in a file, and removes it however this ends.
local function run(arguments, take)
  local pipe = io.popen(([[
    errors=$(mktemp) || exit
    trap 'rm -f "$errors"' EXIT
    trap 'exit 130' HUP INT PIPE TERM
    LC_ALL=C tshark %s 2>"$errors"
    echo "status $?"
    cat "$errors"]]):format(arguments))
  local status, complaints = nil, {}
  for line in pipe:lines() do
    if status then
      complaints[#complaints + 1] = not find(line, "Running as user", 1, true) and line or nil
    else
      status = match(line, "^status (%d+)$")
      if not status then
        take(line)
      end
    end
  end
  pipe:close()
  if status == "0" then
    return nil
  end
  local text = gsub(concat(complaints, " "), "^tshark: ", "")
  return text ~= "" and text or "it ended with status " .. tostring(status)
end

---@class khp.cli.pcap.Connection
---@field client string address and port of who sent first
---@field server string
---@field pieces { from: "client"|"server", bytes: string, missing: integer? }[] in order of time; missing: so many
---  bytes are not in the file, and bytes is ""

-- The digits of a word in hexadecimal, as a pattern, in any case.
local function pattern_of(word)
  return (gsub(word, ".", function(c)
    return (gsub(("%02x%02x"):format(lower(c):byte(), upper(c):byte()), "(.)(.)(.)(.)", "[%1%3][%2%4]"))
  end))
end

-- The numbers of the connections that are wanted, in order.
local function select_streams(path, word, is_wanted)
  local pattern, beginnings, ends, order, wanted = pattern_of(word), {}, {}, {}, {}
  local problem = run(("-r %s -Y 'tcp.len > 0' -T fields -e tcp.stream -e ip.src -e ipv6.src -e tcp.srcport " ..
    "-e tcp.payload"):format(quote(path)), function(line)
    local number, source, digits = match(line, "^(%d+)\t(.*)\t(%x+)$")
    if not number or wanted[number] then
      return
    elseif not beginnings[number] then
      beginnings[number], ends[number] = { "", "" }, source
      order[#order + 1] = number
    end
    local beginning, side = beginnings[number], source == ends[number] and 1 or 2
    if #beginning[side] < 2 * BEGINNING then
      beginning[side] = sub(beginning[side] .. digits, 1, 2 * BEGINNING)
    end
    if find(digits, pattern) then
      wanted[number] = true
      beginnings[number] = false
    end
  end)
  local numbers = {}
  for _, number in ipairs(order) do
    local beginning = beginnings[number]
    if not beginning or is_wanted(unhex(beginning[1]), unhex(beginning[2])) then
      numbers[#numbers + 1] = number
    end
  end
  return numbers, problem
end

-- What "follow" prints of each: its number, the two ends, then the bytes of each piece in hexadecimal, those of the
-- second end indented.
local function follow(path, numbers)
  local arguments, connections, one = { "-r", quote(path), "-q" }, {}, nil
  for _, number in ipairs(numbers) do
    arguments[#arguments + 1] = "-z follow,tcp,raw," .. number
  end
  local problem = run(concat(arguments, " "), function(line)
    local indent, digits = match(line, "^(\t?)(%x+)$")
    if digits and one then
      local bytes = unhex(digits)
      local missing = match(bytes, "^%[(%d+) bytes missing in capture file%]%z?$") -- in their stead, says tshark
      one.pieces[#one.pieces + 1] = {
        from = indent == "" and "client" or "server", bytes = missing and "" or bytes, missing = tonumber(missing),
      }
      return
    end
    local number = match(line, "^Filter: tcp%.stream eq (%d+)")
    if number then
      one = { pieces = {} }
      connections[number] = one
    elseif one then
      one.client = match(line, "^Node 0: (%S+)") or one.client
      one.server = match(line, "^Node 1: (%S+)") or one.server
    end
  end)
  return connections, problem
end

--- Is tshark there?
---@return boolean
function pcap.is_possible()
  local pipe = io.popen "command -v tshark"
  local path = pipe:read "*l"
  pipe:close()
  return path ~= nil
end

--- Finds the connections of a file that have this word in one of their packets, in any case, or that begin as wanted,
--- and calls take() for each, in order.
---@param path string
---@param word string letters
---@param is_wanted fun(one: string, other: string): boolean how the two directions begin
---@param take fun(connection: khp.cli.pcap.Connection)
---@return string? problem what kept tshark from reading all of it
function pcap.find(path, word, is_wanted, take)
  local numbers, problem = select_streams(path, word, is_wanted)
  for first = 1, #numbers, MOST_AT_ONCE do
    local some = {}
    for i = first, math.min(first + MOST_AT_ONCE - 1, #numbers) do
      some[#some + 1] = numbers[i]
    end
    local connections, failed = follow(path, some)
    problem = problem or failed
    for _, number in ipairs(some) do
      if connections[number] then
        take(connections[number])
      end
    end
  end
  return problem
end

return pcap
