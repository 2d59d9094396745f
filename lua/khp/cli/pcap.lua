-- The TCP connections in a file of captured packets, as tshark puts them together. This file must not know what they
-- carry.

local pcap = {}

local function quote(word)
  return "'" .. word:gsub("'", "'\\''") .. "'"
end

-- What the command prints, or nil and what it complains of.
local function run(command)
  local errors = os.tmpname()
  local pipe = io.popen(command .. " 2>" .. quote(errors))
  local output = pipe:read "*a"
  local ok = pipe:close()
  local file = io.open(errors)
  local text = file and file:read "*a" or ""
  if file then
    file:close()
  end
  os.remove(errors)
  if not ok then
    return nil, text:gsub("[^\n]*Running as user[^\n]*\n", ""):match "^%s*(.-)%s*$"
  end
  return output
end

local function unhex(digits)
  return (digits:gsub("%x%x", function(pair)
    return string.char(tonumber(pair, 16))
  end))
end

---@class khp.cli.pcap.Connection
---@field client string address and port of who sent first
---@field server string
---@field pieces { from: "client"|"server", bytes: string }[] in order of time

-- What "follow" prints: the two ends, then the bytes of each piece in hexadecimal, those of the second end indented.
local function read(text)
  local connection = { client = text:match "Node 0: (%S+)", server = text:match "Node 1: (%S+)", pieces = {} }
  for indent, digits in text:gmatch "\n(\t?)(%x+)%f[\r\n]" do
    connection.pieces[#connection.pieces + 1] = { from = indent == "" and "client" or "server", bytes = unhex(digits) }
  end
  return connection
end

--- Is tshark there?
---@return boolean
function pcap.is_possible()
  local pipe = io.popen "command -v tshark"
  local path = pipe:read "*l"
  pipe:close()
  return path ~= nil
end

--- The connections of a file.
---@param path string
---@return khp.cli.pcap.Connection[]?
---@return string? problem
function pcap.connections(path)
  local list, problem = run(("tshark -r %s -Y tcp -T fields -e tcp.stream"):format(quote(path)))
  if not list then
    return nil, problem
  end
  local connections, seen = {}, {}
  for number in list:gmatch "%d+" do
    if not seen[number] then
      seen[number] = true
      local text
      text, problem = run(("tshark -r %s -q -z follow,tcp,raw,%s"):format(quote(path), number))
      if not text then
        return nil, problem
      end
      connections[#connections + 1] = read(text)
    end
  end
  return connections
end

return pcap
