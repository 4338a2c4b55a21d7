-- wrk's script: requests overviews, and reads the server's CPU time while the load is steady.
-- After `--`: seconds, connections, repeats, users, skew, then the pids whose CPU time counts.
-- With a skew of 0 the users take turns. Otherwise the user of rank r is requested in proportion to
-- 1/r^skew (Zipf's law), in an order that is the same in every run.
-- A run starts and ends with every connection in the middle of a request, so totals taken from
-- outside would charge a slow server for work that was not counted as done. Here both clocks are
-- read at a response: first when each connection has had about one, last when the time is over and
-- each has had `repeats` more.

local ffi = require("ffi")
ffi.cdef [[
    typedef struct { long seconds; long nanoseconds; } instant;
    int clock_gettime(int clock, instant *now);
    int getpid(void);
    int kill(int pid, int signal);
]]

local MONOTONIC, SIGINT = 1, 2

local function now()
    local instant = ffi.new("instant")
    ffi.C.clock_gettime(MONOTONIC, instant)
    return tonumber(instant.seconds) + tonumber(instant.nanoseconds) / 1e9
end

-- utime and stime are fields 14 and 15 of proc(5)'s stat; the name before them may hold anything.
local STAT = "%) %S" .. (" %S+"):rep(10) .. " (%d+) (%d+)"

local function ticks(pids)
    local sum = 0
    for _, pid in ipairs(pids) do
        local file = assert(io.open("/proc/" .. pid .. "/stat"))
        local user, system = file:read("*a"):match(STAT)
        file:close()
        sum = sum + user + system
    end
    return sum
end

local DRAWN = 100000

local function turns(users, skew)
    local order, upto, sum = {}, {}, 0
    for user = 1, users do
        order[user] = user
        sum = sum + user ^ -skew
        upto[user] = sum
    end
    if skew == 0 then
        return order
    end
    math.randomseed(1)
    for draw = 1, DRAWN do
        local point, user = math.random() * sum, 1
        while upto[user] < point do
            user = user + 1
        end
        order[draw] = user
    end
    return order
end

function init(args)
    seconds, connections = tonumber(args[1]), tonumber(args[2])
    local users, skew = tonumber(args[4]), tonumber(args[5])
    repeats, order = tonumber(args[3]), turns(users, skew)
    pids = { unpack(args, 6) }
    sent, received, bad = 0, 0, 0
    counted, elapsed, cpu = 0, 0, 0
    paths = {}
    for user = 1, users do
        paths[user] = wrk.format("GET", "/v1/users/" .. user .. "/overview")
    end
end

function request()
    sent = sent + 1
    return paths[order[sent % #order + 1]]
end

function response(status, headers)
    received = received + 1
    if status ~= 200 or headers["x-complete"] == "false" then
        bad = bad + 1
    end
    if received == connections then
        began, before = now(), ticks(pids)
    elseif counted == 0 and received >= connections * (1 + repeats) and now() - began >= seconds then
        counted, elapsed, cpu = received - connections, now() - began, ticks(pids) - before
        -- This ends wrk as if its time were over; `thread:stop()` would let it sleep until then.
        ffi.C.kill(ffi.C.getpid(), SIGINT)
    end
end

local threads = {}

function setup(thread)
    table.insert(threads, thread)
end

function done(summary, latency)
    local thread, errors = threads[1], summary.errors
    local broken = errors.connect + errors.read + errors.write + errors.timeout
    io.write(string.format(
        '\n{"counted": %d, "seconds": %f, "ticks": %d, "bad": %d, "broken": %d, "p50": %f, "p99": %f}\n',
        thread:get("counted"), thread:get("elapsed"), thread:get("cpu"), thread:get("bad"), broken,
        latency:percentile(50), latency:percentile(99)))
end
