"""Networks from one file format to another: the one place where layouts meet. Nothing here imports torch."""

__all__ = ["Format", "Network", "format_of_name", "read_network", "write_network"]

from limbeck.kaldi.convert.networks import Format, Network, format_of_name, read_network, write_network
