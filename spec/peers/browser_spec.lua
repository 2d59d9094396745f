-- The page in examples/browser, in a browser, as its visitors use it.

local khp = require "khp"
local puppet = require "spec.peers.puppet"

local unpack = table.unpack

-- Runs the example's server until it turns the loop; gives the server and the options it was made with.
local function load_example()
  local server, options
  local function listen(given)
    options = given
    server = assert(khp.listen(given))
    return server
  end
  local stage = setmetatable({
    arg = { [0] = "examples/browser/server.lua", "0" },
    print = function() end,
    require = function(name)
      return name == "khp" and { listen = listen, run = function() end } or require(name)
    end,
  }, { __index = _G })
  assert(loadfile("examples/browser/server.lua", "t", stage))()
  return server, options
end

-- What the visitor does, and what the page's log says in the end.
local VISIT = [[
  const frame = document.createElement("iframe");
  frame.src = "/";
  document.body.append(frame);
  await new Promise((resolve) => { frame.onload = resolve; });
  const page = frame.contentDocument;
  const log = page.getElementById("log");
  const until = (text) => new Promise((resolve) => {
    const look = () => log.textContent.includes(text) && resolve();
    new frame.contentWindow.MutationObserver(look).observe(log, { childList: true });
    look();
  });
  const { door, talk } = page.forms;
  door.elements.password.value = "guess";
  door.requestSubmit();
  await until("refused");
  door.elements.password.value = "open sesame";
  door.requestSubmit();
  await until("open, protocol");
  const shown = [door, talk].map((form) => frame.contentWindow.getComputedStyle(form).display).join();
  talk.requestSubmit();
  await until("received");
  return [...log.children].map((line) => line.textContent).join("|") + "|" + shown;
]]

describe("examples/browser", function()
  local found, missing = puppet.find "chromium"
  if not found then
    pending(("lets a visitor in who knows the password, and tells others why not [E8 E13] (%s)"):format(missing))
    return
  end

  local server, chromium

  after_each(function()
    chromium:stop()
    server:close()
  end)

  it("lets a visitor in who knows the password, and tells others why not [E8 E13]", function()
    local site
    server, site = load_example()
    chromium = puppet.start("chromium", nil, site)
    local lines = {}
    for line in chromium:script(VISIT):gmatch "[^|]+" do
      lines[#lines + 1] = line
    end
    local asked = 'asked for Basic realm="members"'
    assert.same({ asked, asked, "refused: 401 Unauthorized" }, { unpack(lines, 1, 3) })
    assert.same({ asked, "open, protocol echo", "received: Hello, Kaazing!", "none,flex" }, { unpack(lines, 4) })
  end)
end)
