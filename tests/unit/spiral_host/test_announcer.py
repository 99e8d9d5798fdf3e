from protocol.events import ServiceDown, ServiceUp
from spiral_host.announcer import Announcer
from spiral_host.registry import Offered

MATH = Offered("math", ("add",), 7, "calculator")
OTHER = Offered("math", ("add",), 8, "rival")


class TestOneService:
    def test_what_is_no_news_is_not_said(self) -> None:
        """
        However often the same is offered.
        """
        announcer = Announcer()
        assert announcer.news_of("math", MATH) == [ServiceUp("math", "calculator")]
        assert announcer.news_of("math", MATH) == []
        assert announcer.news([MATH]) == []

    def test_another_life_takes_its_place(self) -> None:
        """
        The one that is gone is said first; what is not there is not said to be gone.
        """
        announcer = Announcer()
        assert announcer.news_of("math", None) == []
        announcer.news_of("math", MATH)
        news = [ServiceDown("math", "calculator"), ServiceUp("math", "rival")]
        assert announcer.news_of("math", OTHER) == news
        assert announcer.news_of("math", None) == [ServiceDown("math", "rival")]
        assert announcer.news([]) == []
