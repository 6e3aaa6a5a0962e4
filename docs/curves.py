#!/usr/bin/env python3
"""Measures what Perennial costs as work grows, and draws docs/curves.svg.

    docs/curves.py [target/release/perennial]       # some ten minutes; Linux, and matplotlib to draw

Each figure is of a broker of its own on the first core, with the load on the second: processor time of the server for a
delivery to 100 to 18,000 streams of a topic (`perennial bench fanout`); processor time for an event of 256 bytes, in
batches of 100, spread over 1 to 100,000 topics that exist already, and the memory held then; and of a log of 10,000 to
10 million events, what one reader gets (`perennial bench replay`) and how long a start takes after a kill -9.
"""
import http.client, json, os, shutil, signal, socket, subprocess, sys, tempfile, time
from pathlib import Path

BINARY = sys.argv[1] if len(sys.argv) > 1 else "target/release/perennial"
STREAMS = [100, 1_000, 5_000, 10_000, 18_000]
TOPICS = [1, 10, 100, 1_000, 10_000, 100_000]
EVENTS = [10_000, 100_000, 1_000_000, 10_000_000]
FOLDER = tempfile.mkdtemp(prefix="curves-")
BLUE, RED = "#2f6f9f", "#b3472f"


class Broker:
    """A broker on the first core; ready when it has answered."""

    def __init__(self, data):
        self.data = data
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        begun = time.monotonic()
        listen = ["--listen", f"127.0.0.1:{self.port}", "--data", data, "--set", "log=warn"]
        self.process = subprocess.Popen(["taskset", "-c", "0", BINARY, "serve", *listen], stdout=subprocess.DEVNULL)
        while True:
            try:
                web = http.client.HTTPConnection("127.0.0.1", self.port)
                web.request("GET", "/readyz")
                if web.getresponse().status == 200:
                    break
            except ConnectionRefusedError:
                pass
            time.sleep(0.002)
        self.ready_ms = (time.monotonic() - begun) * 1_000

    def processor_seconds(self):
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident_mib(self):
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) / 1_024 for line in lines if line.startswith("VmRSS"))

    def bench(self, *arguments):
        report = os.path.join(FOLDER, "report.json")
        command = ["taskset", "-c", "1", BINARY, "bench", *map(str, arguments), "--url", self.url, "--json", report]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        told = json.loads(Path(report).read_text())
        assert told["exact"], told["faults"]
        return told["figures"]

    def end(self, how=signal.SIGTERM):
        self.process.send_signal(how)
        self.process.wait(60)


def fresh():
    data = os.path.join(FOLDER, "data")
    shutil.rmtree(data, ignore_errors=True)
    return Broker(data)


def publish(broker, bodies):
    web = http.client.HTTPConnection("127.0.0.1", broker.port)
    for body in bodies:
        web.request("POST", "/v1/events", body, {"Content-Type": "application/x-ndjson"})
        answer = web.getresponse()
        answer.read()
        assert answer.status == 201, answer.status


def batches(topics, events, size=100):
    data = "x" * 256
    names = (number % topics for number in range(events))
    for _ in range(events // size):
        yield "".join(f'{{"topic":"t.{next(names)}","data":"{data}"}}\n' for _ in range(size)).encode()


def cost_of_streams(count):
    broker = fresh()
    spent = []
    for seconds in (1, 5):
        before = broker.processor_seconds()
        figures = broker.bench("fanout", "--readers", count, "--rate", "saturated", "--seconds", seconds)
        spent.append((broker.processor_seconds() - before, figures["deliveries_per_second"] * figures["seconds"]))
    broker.end()
    # To open the streams takes the same in both.
    (short, few), (long, many) = spent
    return (long - short) / (many - few) * 1e6, figures["deliveries_per_second"]


def cost_of_topics(count, events=200_000):
    broker = fresh()
    publish(broker, batches(count, max(count, 1_000)))
    bodies = list(batches(count, events))
    before = broker.processor_seconds()
    publish(broker, bodies)
    cost = (broker.processor_seconds() - before) / events * 1e6
    memory = broker.resident_mib()
    broker.end()
    return cost, memory


def cost_of_log(count):
    broker = fresh()
    figures = broker.bench("replay", "--events", count, "--keep")
    broker.end(signal.SIGKILL)
    again = Broker(broker.data)
    told = again.ready_ms, again.resident_mib()
    again.end()
    return (figures["median_events_per_second"], *told)


def measure(name, counts, cost):
    rows = []
    for count in counts:
        rows.append((count, *cost(count)))
        print(name, *(f"{value:,.3g}" if value < 1_000 else f"{value:,.0f}" for value in rows[-1]), flush=True)
    return rows


def short(count, _):
    """A million is 1M."""
    power = next(power for power in (1e6, 1e3, 1) if count >= power or power == 1)
    return f"{count / power:,g}" + {1e6: "M", 1e3: "k", 1: ""}[power]


def draw(streams, topics, log, path):
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "curves", "font.size": 9, "svg.fonttype": "none"})
    from matplotlib import pyplot
    from matplotlib.ticker import FuncFormatter

    figure, places = pyplot.subplots(1, 3, figsize=(11, 3.4), layout="constrained")

    def line(place, rows, column, colour, label):
        place.plot([row[0] for row in rows], [row[column] for row in rows], "o-", color=colour, markersize=4)
        place.set_ylim(bottom=0, top=1.25 * max(row[column] for row in rows))
        place.set_ylabel(label, color=colour)
        place.tick_params(axis="y", colors=colour)
        place.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))

    for place, title in zip(places, ["streams of one topic", "topics", "events in the log"]):
        place.set_xscale("log")
        place.set_xlabel(title)
        place.xaxis.set_major_formatter(FuncFormatter(short))
        place.spines[["top"]].set_visible(False)
    line(places[0], streams, 1, BLUE, "µs for a delivery")
    places[0].spines[["right"]].set_visible(False)
    line(places[1], topics, 1, BLUE, "µs for an event")
    line(places[1].twinx(), topics, 2, RED, "MiB of memory")
    line(places[2], [(row[0], row[1] / 1e6) for row in log], 1, BLUE, "million events a second, one reader")
    line(places[2].twinx(), log, 2, RED, "ms to start after kill -9")
    figure.savefig(path, metadata={"Date": None})


def main():
    streams = measure("streams: µs a delivery, deliveries a second:", STREAMS, cost_of_streams)
    topics = measure("topics: µs an event, MiB:", TOPICS, cost_of_topics)
    log = measure("log: events a second, ms to start, MiB then:", EVENTS, cost_of_log)
    shutil.rmtree(FOLDER)
    draw(streams, topics, log, Path(__file__).with_name("curves.svg"))


if __name__ == "__main__":
    main()
