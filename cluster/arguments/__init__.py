"""Command line: from arguments to a validated configuration.

    usage         command names, their purposes, and the overview that `melray --help` prints
    common_flags  flags of every command: --config, --address, --cpus, --log-level, --quiet, --debug
    registry      for each command its configuration class and the function that runs it, by name
    dash_values   values that begin with a dash, such as the class `-Robin`
    optional_switches  `--multi-label` and `--no-multi-label`, whose default depends on the data
    errors        errors of flags in one line with a hint
    flags         configuration of a command: defaults, then YAML file, then flags; help texts

`usage` loads in milliseconds, so `melray --help` responds immediately; configuration classes, which import
torch, are imported only for the command that is run.
"""
