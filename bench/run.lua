-- Measures khp side by side with a plain libwebsockets server, and with ws on Node where it is installed: what one
-- message, connection or handshake costs in CPU time, and what an idle connection costs in memory. The figures drift
-- with the machine, so each is taken in turn, A B A B, and what counts is the ratio (README.md says more).
--   lua bench/run.lua [--quick] [--only a,b,…]        from the root, after `make bench` has built the programs

local here = arg[0]:match "^(.*)/[^/]*$" or "."
local programs = (os.getenv "BUILD" or "build") .. "/bench/"
local lua = arg[-1]

local SERVER_CORE, LOAD_CORE = 0, 1
local LONGEST = 1800 -- seconds that a server may live, whatever happens to this program

local quick, only = false, nil
do
  local i = 1
  while arg[i] do
    if arg[i] == "--quick" then
      quick = true
    elseif arg[i] == "--only" and arg[i + 1] then
      i = i + 1
      only = {}
      for id in arg[i]:gmatch "[^,]+" do only[id] = true end
    else
      io.stderr:write "usage: run.lua [--quick] [--only a,b,…]\n"
      os.exit(2)
    end
    i = i + 1
  end
end
local pairs_wanted, seconds = quick and 3 or 7, quick and 0.3 or 1

local workloads = {
  { id = "a", title = "64 B, 64 connections x 1", load = { "echo", "-c", 64, "-f", 1, "-s", 64 } },
  { id = "b", title = "64 B, 64 connections x 32", load = { "echo", "-c", 64, "-f", 32, "-s", 64 } },
  { id = "c", title = "16 KiB, 16 connections x 4", load = { "echo", "-c", 16, "-f", 4, "-s", 16384 } },
  { id = "d", title = "1 MiB, 2 connections x 1", load = { "echo", "-c", 2, "-f", 1, "-s", 1048576 } },
  { id = "e", title = "connect, open, close", load = { "open", "-c", 16 } },
  { id = "g", title = "a with 8,000 idle: speed kept", kept = true,
    load = { "echo", "-c", 64, "-f", 1, "-s", 64, "-i", 8000 }, plain = { "echo", "-c", 64, "-f", 1, "-s", 64 } },
  { id = "h", title = "KHP handshakes a CPU second", rate = true, load = { "open", "-c", 16 },
    khp_load = { "khp", "-c", 16 } },
  { id = "m", title = "bytes per idle connection", memory = true, load = { "memory", "-c", quick and 1000 or 2000 } },
  { id = "x", title = "client, 64 B x 32", client = { 64, 32 } },
  { id = "y", title = "client, 16 KiB x 4", client = { 16384, 4 } },
}

-- ---- processes ------------------------------------------------------------------------------------------------------

local function quote(word) return "'" .. tostring(word):gsub("'", "'\\''") .. "'" end

local function command_line(words)
  local quoted = {}
  for i = 1, #words do quoted[i] = quote(words[i]) end
  return table.concat(quoted, " ")
end

-- The output of a program that must end within a minute or two.
local function output(core, words)
  local handle = assert(io.popen(("timeout 150 taskset -c %d %s 2>&1"):format(core, command_line(words))))
  local text = handle:read "*a"
  handle:close()
  return text
end

local running = {}

-- Starts a server; its own shell tells its process id before it becomes the server, then the server tells its port.
local function start(core, words)
  local shell = "echo $$; ulimit -n 20000 2>/dev/null || ulimit -n $(ulimit -Hn); exec taskset -c \"$0\" \"$@\""
  local handle = assert(io.popen(("exec timeout --foreground %d sh -c %s %d %s"):format(
    LONGEST, quote(shell), core, command_line(words))))
  local server = { handle = handle, pid = tonumber(handle:read "*l") }
  running[server] = true
  server.port = tonumber(handle:read "*l")
  if not server.port then error("cannot start " .. table.concat(words, " "), 0) end
  return server
end

local function stop(server)
  running[server] = nil
  os.execute("kill " .. server.pid .. " 2>/dev/null")
  server.handle:close()
end

-- ---- contestants ----------------------------------------------------------------------------------------------------

local function node_path()
  local probe = "NODE_PATH=\"%s\" node -e 'require(\"ws\")' >/dev/null 2>&1 && echo yes"
  local function works(path)
    local handle = assert(io.popen(("cd %s && "):format(quote(here)) .. probe:format(path)))
    local answer = handle:read "*l"
    handle:close()
    return answer == "yes"
  end
  local given = os.getenv "NODE_PATH" or ""
  if works(given) then return given end
  local handle = assert(io.popen "npm root -g 2>/dev/null")
  local global = handle:read "*l"
  handle:close()
  return global and works(global) and global or nil
end

local reference = { name = "libwebsockets", server = { programs .. "lws_echo" }, client = { programs .. "lws_client" } }
local khp = { name = "khp", server = { lua, here .. "/echo.lua" }, client = { lua, here .. "/khp_client.lua" },
  members = { lua, here .. "/echo.lua", here .. "/members.lua" } }
local contestants = { reference, khp }
local path = node_path()
if path then
  contestants[3] = { name = "ws on Node", server = { "env", "NODE_PATH=" .. path, "node", here .. "/node_echo.js" } }
end

-- ---- measuring ------------------------------------------------------------------------------------------------------

local function number_of(text)
  local number = tonumber(text:match "^(%d[%d.]*)")
  if not number then error(text, 0) end
  return number
end

-- One measurement of a running server, with the load program's words.
local function load(server, words)
  local line = { programs .. "load" }
  for i = 1, #words do line[#line + 1] = words[i] end
  for _, word in ipairs { "-p", server.port, "-P", server.pid, "-t", seconds } do line[#line + 1] = word end
  local shell = "ulimit -n 20000 2>/dev/null || ulimit -n $(ulimit -Hn); exec \"$0\" \"$@\""
  return number_of(output(LOAD_CORE, { "sh", "-c", shell, table.unpack(line) }))
end

local function median(values)
  table.sort(values)
  local middle = math.floor((#values + 1) / 2)
  return #values % 2 == 1 and values[middle] or (values[middle] + values[middle + 1]) / 2
end

-- measure(contestant) gives one figure and, for "speed kept", the one to compare it with. Results by contestant:
-- { figure =, ratio = of the first contestant's figure to this one }
local function in_turn(entrants, measure)
  local figures, ratios = {}, {}
  for _, one in ipairs(entrants) do figures[one], ratios[one] = {}, {} end
  for round = 1, pairs_wanted do
    local base
    for _, one in ipairs(entrants) do
      local figure, compared = measure(one)
      base = base or figure
      figures[one][round], ratios[one][round] = figure, (compared or base) / figure
    end
  end
  local results = {}
  for _, one in ipairs(entrants) do results[one] = { figure = median(figures[one]), ratio = median(ratios[one]) } end
  return results
end

local function measure_servers(workload)
  local entrants, servers = {}, {}
  for _, one in ipairs(contestants) do
    if not workload.khp_load or one == reference or one == khp then
      entrants[#entrants + 1] = one
      servers[one] = not workload.memory and start(SERVER_CORE, workload.khp_load and one.members or one.server)
    end
  end
  local results = in_turn(entrants, function(one)
    if workload.memory then -- what the last run left behind would be filled first: each gets a fresh server
      local server = start(SERVER_CORE, one.server)
      local figure = load(server, workload.load)
      stop(server)
      return figure
    end
    local figure = load(servers[one], one == khp and workload.khp_load or workload.load)
    return figure, workload.kept and load(servers[one], workload.plain)
  end)
  for _, server in pairs(servers) do
    if server then stop(server) end
  end
  return results
end

local function measure_clients(workload)
  local server = start(LOAD_CORE, khp.server)
  local results = in_turn({ reference, khp }, function(one)
    local line = {}
    for i = 1, #one.client do line[i] = one.client[i] end
    for _, word in ipairs { server.port, workload.client[1], workload.client[2], seconds } do line[#line + 1] = word end
    return number_of(output(SERVER_CORE, line))
  end)
  stop(server)
  return results
end

-- ---- the table ------------------------------------------------------------------------------------------------------

local function cell(workload, result, first)
  if not result then return "" end
  local figure = workload.memory and ("%.0f B"):format(result.figure)
    or workload.rate and ("%.0f /s"):format(1e9 / result.figure)
    or result.figure < 99950 and ("%.2f us"):format(result.figure / 1000)
    or ("%.0f us"):format(result.figure / 1000)
  local ratio = workload.kept and ("%.0f %%"):format(100 * result.ratio)
    or not first and ("%.2f x"):format(result.ratio) or ""
  return figure .. ("%9s"):format(ratio)
end

local function row(cells)
  local format = "%-34s" .. ("%24s"):rep(#contestants)
  print((format:format(table.unpack(cells)):gsub("%s+$", "")))
end

local function main()
  local heads = { "CPU per message or connection" }
  for i, one in ipairs(contestants) do heads[i + 1] = one.name .. (i == 1 and "         " or "") end
  row(heads)
  for _, workload in ipairs(workloads) do
    if not only or only[workload.id] then
      local ok, results = pcall(workload.client and measure_clients or measure_servers, workload)
      for server in pairs(running) do stop(server) end
      if not ok then error(("%s (%s): %s"):format(workload.id, workload.title, results), 0) end
      local cells = { workload.id .. "  " .. workload.title }
      for i, one in ipairs(contestants) do cells[i + 1] = cell(workload, results[one], i == 1) end
      row(cells)
      io.stdout:flush()
    end
  end
  print "1.50 x: the first column cost 1.5 times as much as this one, median of the pairs; more is better."
end

local ok, message = pcall(main)
if not ok then
  io.stderr:write("bench: ", message, "\n")
  os.exit(1)
end
