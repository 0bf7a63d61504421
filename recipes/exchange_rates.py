"""What a shop took in on a day, in one currency: its orders in several ones, at the rates of that day.

    python recipes/exchange_rates.py --orders DIR --api 'https://HOST/{date}?base=EUR' --date 2018-12-01 --mail you@example.org

The rates are fetched once and kept as they came; they are checked, and orders are added up by currency; the day's rows are
loaded into a database, each over the one that it had before; and then a mail says so. Whatever fails, the same command goes
on from there: rates are not fetched twice, and a mail that was sent is not sent again.
"""

from __future__ import annotations

import smtplib
from collections import defaultdict
from decimal import Decimal
from email.message import EmailMessage
from typing import Annotated, Any

import typer

from sshmap.functions import Input, Inputs, Output, Outputs
from sshmap.recipe import Day, Files, Pattern, Table, recipe

CENT = Decimal("0.01")


def rates(raw: Input, out: Output) -> None:
    """Read what the service has answered: how much of each currency one unit of the base is worth, on the file's day."""
    answer, day = raw.json(), raw.name.removesuffix(".json")
    found = answer.get("rates") if isinstance(answer, dict) else None
    if not isinstance(found, dict) or not all(isinstance(rate, int | float) and rate > 0 for rate in found.values()):
        raise ValueError(f"the service's answer has changed, there are no rates in it: {str(answer)[:200]}")
    if answer.get("date") != day:
        raise ValueError(f"these are rates of {answer.get('date')}, not of {day}")
    out.csv([(answer["base"], 1.0), *((name, float(rate)) for name, rate in sorted(found.items()))])


def gathered(rows: Input, outputs: Outputs) -> None:
    """Give all files' sums one name, so that they come to one host."""
    outputs["sums"].write(rows.bytes())


def added(group: Inputs, out: Output) -> None:
    """Add the files up."""
    count, sums = defaultdict[str, int](int), defaultdict[str, Decimal](Decimal)
    for one in group:
        for currency, orders, amount in one.csv():
            count[currency] += int(orders)
            sums[currency] += Decimal(amount)
    out.csv((currency, count[currency], amount) for currency, amount in sorted(sums.items()))


def mail(rows: list[dict[str, Any]], server: str, to: str) -> None:
    """Send the rows to somebody."""
    message = EmailMessage()
    message["From"], message["To"] = to, to
    total = sum(Decimal(str(row["revenue"])) for row in rows)
    message["Subject"] = f"Revenue of {rows[0]['day']}: {total}" if rows else "No orders"
    message.set_content(
        "".join(f"{row['currency']} {row['amount']} at {row['rate']}: {row['revenue']}\n" for row in rows)
    )
    host, _, port = server.partition(":")
    with smtplib.SMTP(host, int(port or 25), timeout=30) as smtp:
        smtp.send_message(message)


@recipe
def exchange_rates(
    orders: Annotated[Files, Pattern("orders-{date}*.csv", "A day's orders: id,time,currency,amount")],
    quotes: Annotated[Files, Pattern("{date}.json", "Rates as the service answers, if they are not to be fetched")],
    day: Day,
    api: Annotated[str, typer.Option("--api", help="Where the rates are fetched; {date} stands for the day.")] = "",
    to: Annotated[str, typer.Option("--mail", help="Who is told.")] = "",
    server: Annotated[str, typer.Option("--server", help="The mail server, HOST:PORT.")] = "localhost:25",
) -> Table:
    """Add up a day's orders in one currency."""
    date = str(day)

    def sums(rows: Input, out: Output) -> None:
        count, amounts = defaultdict[str, int](int), defaultdict[str, Decimal](Decimal)
        lines = rows.csv()
        header = next(lines, [])
        if missing := {"time", "currency", "amount"}.difference(header):
            raise ValueError(f"no column {' or '.join(sorted(missing))} in the header: {','.join(header)}")
        time, currency, amount = (header.index(name) for name in ("time", "currency", "amount"))
        for row in lines:
            # an order belongs to the day of its time, in whichever file it came
            if row and row[time].startswith(date):
                count[row[currency]] += 1
                amounts[row[currency]] += Decimal(row[amount])
        out.csv((name, count[name], total) for name, total in sorted(amounts.items()))

    def revenue(rows: Input, out: Output) -> None:
        known = {name: Decimal(rate) for name, rate in Input("prices").csv()}
        for name, count, amount in rows.csv():
            if name not in known:
                raise ValueError(f"no rate of {name} on {date}; there are {', '.join(sorted(known))}")
            taken = (Decimal(amount) / known[name]).quantize(CENT)
            out.csv([(date, name, count, amount, known[name], taken)])

    if api:
        quotes.or_fetched({f"{date}.json": api})
    prices = quotes.map("prices", rates)
    total = orders.map(sums).fanout(gathered).merge(added).map(revenue, shipped=[prices])
    table = total.table("day", "currency", "orders", "amount", "rate", "revenue", separator=",")
    table.load("revenue", keys=["day", "currency"])
    return table.notify("mail", lambda rows: mail(rows, server, to)) if to else table


if __name__ == "__main__":
    exchange_rates.main()
