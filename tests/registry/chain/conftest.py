from tests.fixtures_anvil import anvil, anvil_session, chain, publisher, stranger

__all__ = ["anvil", "anvil_session", "chain", "publisher", "stranger"]
