"""How clients form teams."""
