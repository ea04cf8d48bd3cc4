"""What shows things: values, text, and the terminal that takes it.

In: rows, changes, numbers. Out: text on standard output or standard error. Asks no host.

    columns        what a table, JSON, YAML and CSV can show of a row
    fleet_columns  what can be shown of a fleet: its guests, its hosts
    fleet_news     what a reader of a fleet is told, for people and for programs
    render         records in the format asked for
    table          a table, for people
    words          numbers and times, for people
    differences    what differs between a domain before and after
    news_lines     what a live view tells, for people
    news_records   what a live view tells, for programs
    findings       what a table, JSON, YAML and CSV can show of an audit
    finding_lines  what an audit found, for people
    terminal       standard output and standard error: the only way out
    screen         lines that are drawn again in their place
    progress       the line that says what the command waits for
"""
