"""Pydantic types derived from the fields of `Guidance`, for recipes, policies and request bodies."""

from collections.abc import Callable
from dataclasses import Field as DataclassField
from functools import partial
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, Field, ValidatorFunctionWrapHandler, WrapValidator, create_model

from nescio.core.errors import NescioError
from nescio.core.guidance import COMBINING, Guidance
from nescio.core.spaces import SPACES

Model = TypeVar("Model", bound=BaseModel)


def check_setting(name: str, value: Any) -> Any:
    """Return the value of one setting, checked by `Guidance` itself.

    Raises:
        ValueError: It is out of its range or unknown; Pydantic adds the place.
    """
    try:
        Guidance(**{name: value})
    except NescioError as error:
        raise ValueError(str(error)) from error
    return value


def _whole(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
    try:
        return handler(value)
    except NescioError as error:
        raise ValueError(str(error)) from error


SpaceName = Annotated[str, AfterValidator(partial(check_setting, "space"))]
"""A registered guidance space."""

GuidanceField = Annotated[Guidance, WrapValidator(_whole)]
"""A whole `Guidance`, from a mapping of its fields."""


def setting_type(setting: DataclassField[Any]) -> Any:
    """A setting's type for Pydantic, with its range in the schema."""
    bounds: dict[str, Any] = {"ge": setting.metadata.get("least"), "le": setting.metadata.get("most")}
    if setting.type is float:
        bounds["allow_inf_nan"] = False
    if setting.name == "space":
        bounds["json_schema_extra"] = {"enum": SPACES.names()}
    checked = AfterValidator(partial(check_setting, setting.name))
    return Annotated[setting.type, Field(**bounds), checked]


def with_settings(make: Callable[[DataclassField[Any]], tuple[Any, Any]]) -> Callable[[type[Model]], type[Model]]:
    """Class decorator that gives a model a field for each setting of `COMBINING`.

    Args:
        make: Returns the type and the default of a setting's field.
    """

    def decorate(model: type[Model]) -> type[Model]:
        added: Any = {setting.name: make(setting) for setting in COMBINING}
        name, module, text = model.__name__, model.__module__, model.__doc__
        return create_model(name, __base__=model, __module__=module, __doc__=text, **added)

    return decorate
