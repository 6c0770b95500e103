"""A witness of logs (C2SP tlog-witness): a service of its own, to be run by others than those whose logs it watches."""
