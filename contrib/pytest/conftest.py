pytest_plugins = ["highwater_pytest"]
