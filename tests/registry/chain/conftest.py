from tests.fixtures_anvil import anvil, anvil_session, chain, publisher, stranger
from tests.registry.chain.sending import counting_node, sent_home, stopped_node

__all__ = ["anvil", "anvil_session", "chain", "counting_node", "publisher", "sent_home", "stopped_node", "stranger"]
